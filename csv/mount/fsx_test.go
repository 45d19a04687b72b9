package mount_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestRandomOperations does the same to a file on the volume, now through one
// mount, now through the other, and to bytes in memory.
func TestRandomOperations(t *testing.T) {
	r := newRig(t, memoryLUN(128<<20))
	mounts := []*node{r.mount(1), r.mount(2)}
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		name := fmt.Sprintf("f%d", seed)
		var files []*os.File
		for _, m := range mounts {
			f, err := os.OpenFile(filepath.Join(m.dir, name), os.O_RDWR|os.O_CREATE, 0o600)
			must(t, err)
			files = append(files, f)
		}
		var model []byte
		for n := range 1500 {
			model = randomOperation(t, rnd, files[rnd.IntN(2)], model, n)
			if n%50 == 0 {
				for i, m := range mounts {
					got, err := os.ReadFile(filepath.Join(m.dir, name))
					must(t, err)
					if !bytes.Equal(got, model) {
						t.Fatalf("seed %d, operation %d, mount %d: the file differs", seed, n, i)
					}
				}
			}
		}
		for _, f := range files {
			must(t, f.Close())
		}
	}
}

func randomOperation(t *testing.T, rnd *rand.Rand, f *os.File, model []byte, n int) []byte {
	t.Helper()
	const limit = 1 << 20
	off, size := rnd.Int64N(limit), 1+rnd.Int64N(200000)
	if rnd.IntN(2) == 0 {
		off, size = off/4096*4096, (size+4095)/4096*4096
	}
	grow := func(to int64) {
		if to > int64(len(model)) {
			model = append(model, make([]byte, to-int64(len(model)))...)
		}
	}
	switch rnd.IntN(8) {
	case 0, 1, 2:
		p := bytes.Repeat([]byte{byte(1 + rnd.IntN(255))}, int(size))
		_, err := f.WriteAt(p, off)
		must(t, err)
		grow(off + size)
		copy(model[off:], p)
	case 3:
		must(t, f.Truncate(off))
		grow(off)
		model = model[:off:off]
	case 4:
		must(t, syscall.Fallocate(int(f.Fd()), 3, off, size))
		if off < int64(len(model)) {
			clear(model[off:min(off+size, int64(len(model)))])
		}
	case 5:
		must(t, syscall.Fallocate(int(f.Fd()), 0x10, off, size))
		grow(off + size)
		clear(model[off : off+size])
	case 6:
		must(t, syscall.Fallocate(int(f.Fd()), 0, off, size))
		grow(off + size)
	default:
		got := make([]byte, size)
		k, _ := f.ReadAt(got, off)
		want := model[min(off, int64(len(model))):min(off+size, int64(len(model)))]
		if !bytes.Equal(got[:k], want) {
			t.Fatalf("operation %d: %d bytes at %d differ", n, size, off)
		}
	}
	return model
}
