package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAppend: two nodes append lines to one file that both keep open; each line is
// there once, and whole.
func TestAppend(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a, b := r.mount(1), r.mount(2)
	const lines = 150
	var work sync.WaitGroup
	for n, m := range []*node{a, b} {
		f, err := os.OpenFile(filepath.Join(m.dir, "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		must(t, err)
		work.Go(func() {
			defer f.Close()
			for i := range lines {
				if _, err := fmt.Fprintf(f, "node %d line %d %s\n", n, i, strings.Repeat("x", 500)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	work.Wait()
	got, err := os.ReadFile(filepath.Join(a.dir, "log"))
	must(t, err)
	seen := map[string]int{}
	for l := range strings.Lines(string(got)) {
		seen[strings.TrimRight(l, "x\n")]++
	}
	for n := range 2 {
		for i := range lines {
			if c := seen[fmt.Sprintf("node %d line %d ", n, i)]; c != 1 {
				t.Fatalf("node %d line %d is there %d times", n, i, c)
			}
		}
	}
}

// TestFull: a full volume says so, harms nothing, and has its space back when
// files are removed.
func TestFull(t *testing.T) {
	r := newRig(t, memoryLUN(32<<20))
	a := r.mount(1)
	free := func() uint64 {
		var st syscall.Statfs_t
		must(t, syscall.Statfs(a.dir, &st))
		return st.Bfree * uint64(st.Bsize)
	}
	before := free()
	must(t, os.WriteFile(filepath.Join(a.dir, "precious"), []byte("keep me"), 0o600))
	big, err := os.Create(filepath.Join(a.dir, "big"))
	must(t, err)
	for err == nil {
		_, err = big.Write(bytes.Repeat([]byte{1}, 1<<20))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling up: %v", err)
	}
	must(t, big.Sync())
	must(t, big.Close())
	n := 0
	for err = nil; err == nil && n < 100000; n++ {
		err = os.WriteFile(filepath.Join(a.dir, fmt.Sprintf("small%05d", n)), []byte("x"), 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling up with small files: %v", err)
	}
	must(t, r.coord.Relinquish(background)) // a checkpoint still has room
	r.coordinate()
	got, err := os.ReadFile(filepath.Join(a.dir, "precious"))
	must(t, err)
	if string(got) != "keep me" {
		t.Fatalf("read %q", got)
	}
	es, err := os.ReadDir(a.dir)
	must(t, err)
	for _, e := range es {
		must(t, os.Remove(filepath.Join(a.dir, e.Name())))
	}
	for end := time.Now().Add(10 * time.Second); free()+(1<<20) < before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d bytes free, %d before", free(), before)
		}
	}
	must(t, os.WriteFile(filepath.Join(a.dir, "again"), bytes.Repeat([]byte{1}, 1<<20), 0o600))
}
