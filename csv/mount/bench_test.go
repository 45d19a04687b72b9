package mount_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// BenchmarkMount reads and writes a file of 64 MiB past the kernel's cache, on a LUN in
// memory, so that what takes time is FUSE and the client: `make bench` measures the rest.
func BenchmarkMount(b *testing.B) {
	for _, depth := range []int{1, 32} {
		for _, size := range []int{4 << 10, 1 << 20} {
			for _, write := range []bool{false, true} {
				b.Run(fmt.Sprintf("write=%v/size=%d/depth=%d", write, size, depth), func(b *testing.B) {
					benchMount(b, depth, size, write)
				})
			}
		}
	}
}

// benchSize is what the file has, in bytes.
const benchSize = 64 << 20

func benchMount(b *testing.B, depth, size int, write bool) {
	r := newRig(b, memoryLUN(256<<20))
	n := r.mount(1)
	fd, err := unix.Open(filepath.Join(n.dir, "disk"), unix.O_RDWR|unix.O_CREAT|unix.O_DIRECT|unix.O_CLOEXEC, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	p := aligned(1 << 20)
	for at := int64(0); at < benchSize; at += int64(len(p)) {
		if _, err := unix.Pwrite(fd, p, at); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(size))
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range depth {
		wg.Go(func() {
			p := aligned(size)
			for left.Add(-1) >= 0 {
				at, err := rand.Int64N(benchSize/int64(size))*int64(size), error(nil)
				if write {
					_, err = unix.Pwrite(fd, p, at)
				} else {
					_, err = unix.Pread(fd, p, at)
				}
				if err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// aligned is memory that direct I/O may use.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	skip := (page - int(uintptr(unsafe.Pointer(&b[0]))%page)) % page
	return b[skip : skip+n]
}
