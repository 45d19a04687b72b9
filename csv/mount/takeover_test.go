package mount_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"quorate/csv"
	"quorate/csv/csvpb"
)

// regular is S_IFREG with permissions.
const regular = 0o100644

// TestTakeover kills the coordinator again and again under writers on two nodes.
// What was flushed, what was written (the nodes live on), and every name that was
// acknowledged must be there; nobody sees an error.
func TestTakeover(t *testing.T) {
	r := newRig(t, memoryLUN(1<<30))
	nodes := []*node{r.client(1), r.client(2)}
	shared, err := nodes[0].CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("shared"), Mode: regular})
	must(t, err)
	must(t, nodes[1].Open(shared.Ino))
	stop := make(chan struct{})
	var writers sync.WaitGroup
	results := make([]map[int64][]byte, 4)
	names := make([][]string, 4)
	for w := range 4 {
		results[w] = map[int64][]byte{}
		c, rnd := nodes[w%2], rand.New(rand.NewPCG(uint64(w), 3))
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				// Interleaved units: neighbours are written by other writers.
				unit := int64(rnd.IntN(64))*4 + int64(w)
				p := bytes.Repeat(binary.BigEndian.AppendUint32(nil, uint32(w<<24|n)), 20000/4)
				must(t, c.Write(shared.Ino, p, unit*20000))
				results[w][unit*20000] = p
				if n%8 == 0 {
					name := fmt.Sprintf("f-%d-%d", w, n)
					i, err := c.Create(&csvpb.Create{Dir: 1, Name: []byte(name), Mode: regular})
					must(t, err)
					must(t, c.Write(i.Ino, p, 0))
					must(t, c.Rename(1, name, 1, name+"-r", 0))
					names[w] = append(names[w], name+"-r")
				}
				if n%16 == 5 {
					must(t, c.Sync(shared.Ino, false))
				}
			}
		})
	}
	for range 12 {
		time.Sleep(40 * time.Millisecond) // how long each coordinator lives
		r.mu.Lock()
		old := r.coord
		r.coord = nil
		r.mu.Unlock()
		old.Abandon()
		r.coordinate()
	}
	close(stop)
	writers.Wait()
	verify(t, nodes, shared.Ino, results, names)
	late := r.client(3)
	verify(t, []*node{late}, shared.Ino, results, names)
}

func verify(t testing.TB, nodes []*node, ino uint64, results []map[int64][]byte, names [][]string) {
	t.Helper()
	total := 0
	for _, c := range nodes {
		for _, m := range results {
			for off, want := range m {
				got := make([]byte, len(want))
				n, err := c.Read(ino, got, off)
				must(t, err)
				if n != len(want) || !bytes.Equal(got, want) {
					t.Fatalf("at %d: read %d bytes starting %x, want %x", off, n, got[:8], want[:8])
				}
			}
		}
		es, err := c.ReadDir(1)
		must(t, err)
		have := map[string]bool{}
		for _, e := range es {
			have[string(e.Name)] = true
		}
		for _, ns := range names {
			total += len(ns)
			for _, n := range ns {
				if !have[n] {
					t.Fatalf("%s is missing", n)
				}
			}
		}
		if want := total + 1; len(es) != want {
			t.Fatalf("%d entries, want %d", len(es), want)
		}
		total = 0
	}
}

// TestGrace: a new coordinator lets nobody change anything before the nodes that
// used the volume are back, or evicted.
func TestGrace(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	core, said := observer.New(zap.InfoLevel)
	r.log = r.log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return zapcore.NewTee(c, core) }))
	a, b := r.client(1), r.client(2)
	i, err := a.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	must(t, a.Write(i.Ino, make([]byte, 100000), 0))
	must(t, b.Open(i.Ino))
	must(t, b.SetLock(csv.Lock{Ino: i.Ino, Type: csv.WriteLock, End: 10, Owner: csv.Owner{Owner: 5}}, false, nil))
	r.mu.Lock()
	r.cut[2] = true
	old := r.coord
	r.mu.Unlock()
	old.Abandon()
	r.coordinate()
	done := make(chan error, 1)
	go func() { _, err := a.Create(&csvpb.Create{Dir: 1, Name: []byte("y"), Mode: regular}); done <- err }()
	must(t, a.Write(i.Ino, make([]byte, 512), 4096)) // whole blocks in place need nobody
	waitFor(t, func() bool { return len(r.coord.Status().Sessions) == 1 })
	if got := r.coord.Status().Awaited; len(got) != 1 || got[0] != 2 {
		t.Fatalf("awaited: %v", got)
	}
	select {
	case err := <-done:
		t.Fatalf("created during the grace period: %v", err)
	default:
	}
	r.mu.Lock()
	r.cut[2] = false
	r.mu.Unlock()
	must(t, <-done)
	if err := a.SetLock(csv.Lock{Ino: i.Ino, Type: csv.ReadLock, End: 1, Owner: csv.Owner{Owner: 9}}, false, nil); err == nil {
		t.Fatal("the lock of node 2 was not claimed again")
	}
	// Evicted instead: its lock goes, and it may not come back with its claims.
	r.mu.Lock()
	r.cut[2] = true
	r.mu.Unlock()
	for range 3 {
		r.coord.Evict(2)
	}
	if n := said.FilterMessage("node evicted").Len(); n != 1 {
		t.Errorf("that node 2 is evicted is said %d times", n)
	}
	must(t, a.SetLock(csv.Lock{Ino: i.Ino, Type: csv.ReadLock, End: 1, Owner: csv.Owner{Owner: 9}}, false, nil))
	r.mu.Lock()
	r.cut[2] = false
	r.mu.Unlock()
	waitFor(t, func() bool { return b.Status().Access == csv.Fenced })
}

// TestHandover: a planned move of the coordinator loses nothing and is short.
func TestHandover(t *testing.T) {
	r := newRig(t, memoryLUN(64<<20))
	a := r.client(1)
	i, err := a.CreateOpen(&csvpb.Create{Dir: 1, Name: []byte("x"), Mode: regular})
	must(t, err)
	for n := range 20 {
		must(t, a.Write(i.Ino, bytes.Repeat([]byte{byte(n + 1)}, 70000), int64(n)*70000))
		begin := time.Now()
		must(t, r.coord.Relinquish(background))
		r.coordinate()
		_, err := a.Create(&csvpb.Create{Dir: 1, Name: []byte(fmt.Sprint(n)), Mode: regular})
		must(t, err)
		t.Logf("moved in %v", time.Since(begin))
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not come about in 10 s")
		}
	}
}
