package holder

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// started is a holder with a clock that the test moves, and a count of its kills.
func started(t *testing.T) (dir string, now *atomic.Int64, kills chan struct{}, ended chan error) {
	t.Helper()
	dir, now, kills, ended = t.TempDir(), &atomic.Int64{}, make(chan struct{}, 8), make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		ended <- Run(ctx, Options{
			RunDir: dir, Clock: func() time.Duration { return time.Duration(now.Load()) },
			Kill: func() int { kills <- struct{}{}; return 1 }, Log: zaptest.NewLogger(t),
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			must(t, err)
		case <-time.After(time.Minute):
			t.Error("the holder does not end")
		}
	})
	return dir, now, kills, ended
}

func connected(t *testing.T, dir string) *Client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := Await(ctx, dir)
	must(t, err)
	return c
}

// TestNextNodedGetsTheMounts: a noded that comes after one that is gone finds the same
// descriptors, and what was said of them.
func TestNextNodedGetsTheMounts(t *testing.T) {
	dir, _, kills, _ := started(t)
	c := connected(t, dir)
	r, w, err := os.Pipe()
	must(t, err)
	must(t, c.Lease(time.Hour))
	must(t, c.Put(Mount{Name: "v", Dev: w, Init: []byte{1, 0, 2}, Meta: []byte("a")}))
	must(t, c.Put(Mount{Name: "v", Init: []byte{1, 0, 2}, Meta: []byte("b")})) // more is known
	must(t, w.Close())
	must(t, c.Close())
	c = connected(t, dir)
	names, until, err := c.List()
	must(t, err)
	if len(names) != 1 || names[0] != "v" || until != time.Hour {
		t.Fatalf("%v until %v", names, until)
	}
	for range 2 { // it goes on to keep it
		m, err := c.Get("v")
		must(t, err)
		if string(m.Init) != "\x01\x00\x02" || string(m.Meta) != "b" {
			t.Fatalf("%+v", m)
		}
		_, err = m.Dev.WriteString("x")
		must(t, err)
		must(t, m.Dev.Close())
	}
	if _, err := c.Get("w"); err == nil {
		t.Error("there is no w")
	}
	must(t, c.Drop("v"))
	got, err := io.ReadAll(r) // ends: nobody has it open
	must(t, err)
	if string(got) != "xx" {
		t.Errorf("read %q", got)
	}
	must(t, r.Close())
	must(t, c.Close())
	if len(kills) != 0 {
		t.Error("machines were killed")
	}
}

// TestLeaseEndsWithoutNoded: when the lease has ended and no noded is there, the machines
// are killed and the mounts closed; while one is there that is its business.
func TestLeaseEndsWithoutNoded(t *testing.T) {
	dir, now, kills, ended := started(t)
	c := connected(t, dir)
	r, w, err := os.Pipe()
	must(t, err)
	must(t, c.Put(Mount{Name: "v", Dev: w}))
	must(t, w.Close())
	must(t, c.Lease(time.Second))
	now.Store(int64(2 * time.Second))
	if _, _, err := c.List(); err != nil || len(kills) != 0 {
		t.Fatalf("while noded is there: %v, %d kills", err, len(kills))
	}
	must(t, c.Close())
	err = <-ended
	ended <- err
	must(t, err)
	if len(kills) != 2 { // and once more, for one that was being started
		t.Errorf("%d kills", len(kills))
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Error(err)
	}
	must(t, r.Close())
	if _, err := Dial(dir); err == nil {
		t.Error("the holder is still there")
	}
}
