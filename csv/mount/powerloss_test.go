package mount_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/handover"
	"quorate/disk"
)

// world is a LUN with a volatile cache on which something dies between two I/Os.
type world struct {
	mu    sync.Mutex
	dev   *disk.Crashing
	lives map[string]int // of each user, ended by its death
	left  int            // I/Os until the next death; 0: none is due
	die   func()
	fired chan struct{}
}

// handle is one life of one user of the LUN.
type handle struct {
	w    *world
	who  string
	life int
	dev  *disk.Crashing
}

func (w *world) open(who string) disk.Device {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &handle{w: w, who: who, life: w.lives[who], dev: w.dev}
}

// after has die called, with mu held, instead of the nth I/O from now.
func (w *world) after(n int, die func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left, w.die, w.fired = n, die, make(chan struct{})
}

// do carries out one I/O, unless its user is dead.
func (h *handle) do(io func(*disk.Crashing) error) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.w.left > 0 {
		if h.w.left--; h.w.left == 0 {
			h.w.die()
			close(h.w.fired)
		}
	}
	if h.w.lives[h.who] != h.life {
		return disk.ErrFenced
	}
	return io(h.dev)
}

func (h *handle) Info() disk.Info { return h.dev.Info() }
func (h *handle) Close() error    { return nil }

func (h *handle) ReadAt(ctx context.Context, p []byte, off int64) error {
	return h.do(func(d *disk.Crashing) error { return d.ReadAt(ctx, p, off) })
}

func (h *handle) WriteAt(ctx context.Context, p []byte, off int64) error {
	return h.do(func(d *disk.Crashing) error { return d.WriteAt(ctx, p, off) })
}

func (h *handle) Flush(ctx context.Context) error {
	return h.do(func(d *disk.Crashing) error { return d.Flush(ctx) })
}

// nowhere is the device of a node that has no path to the LUN.
type nowhere struct{ disk.Device }

func (nowhere) ReadAt(context.Context, []byte, int64) error  { return disk.ErrPathLost }
func (nowhere) WriteAt(context.Context, []byte, int64) error { return disk.ErrPathLost }
func (nowhere) Flush(context.Context) error                  { return disk.ErrPathLost }

// history is a volume with two nodes, of which the first is redirected, and with two
// writers on each.
type history struct {
	*rig
	w       *world
	rnd     *rand.Rand
	clients map[csv.NodeID]*node
	writers map[csv.NodeID][]*writer
	running map[csv.NodeID]*sync.WaitGroup
	lives   map[csv.NodeID]*life
	stop    chan struct{}
	deaths  map[string]int
}

// life is a node from when it starts until it dies, and turn the process of its noded.
type life struct {
	incarnation uint64
	turn        uint32
	keep        *handover.File
}

var powerLosses = flag.Uint64("power-losses", 3, "how many `histories` of power losses and deaths are played")

// TestPowerLoss: between any two I/Os the coordinator dies, a node dies, or its noded,
// or all lose power, the disk with what is in its cache. What was synced is there
// afterwards, what was not is there in part or not where its node or the disk lost power,
// and there where they did not; nothing else is, and a check finds nothing.
func TestPowerLoss(t *testing.T) {
	seeds := *powerLosses
	if testing.Short() {
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { powerLoss(t, seed) })
	}
}

func powerLoss(t *testing.T, seed uint64) {
	mem := disk.NewMemory(128<<20, 512)
	junk := make([]byte, 1<<20)
	for i := range junk {
		junk[i] = 0xa5 // what was on the LUN before
	}
	for off := int64(2 << 20); off < 127<<20; off += int64(len(junk)) {
		must(t, mem.WriteAt(background, junk, off))
	}
	w := &world{dev: disk.NewCrashing(mem, seed), lives: map[string]int{}}
	h := &history{
		rig: newRig(t, w.open), w: w, rnd: rand.New(rand.NewPCG(seed, 7)), clients: map[csv.NodeID]*node{}, deaths: map[string]int{},
		writers: map[csv.NodeID][]*writer{}, running: map[csv.NodeID]*sync.WaitGroup{}, lives: map[csv.NodeID]*life{}, stop: make(chan struct{}),
	}
	h.supplanted = func(string) error { return nil }
	h.lose(1, true)
	for n := csv.NodeID(1); n <= 2; n++ {
		for i := range 2 {
			h.writers[n] = append(h.writers[n], newWriter(int(n-1)*2+i, seed))
		}
	}
	h.begin(1)
	h.begin(2)
	for range 10 {
		h.death()
	}
	close(h.stop)
	for n, g := range h.running {
		g.Wait()
		for _, w := range h.writers[n] {
			w.verify(t, h.clients[2], nothing)
		}
	}
	h.sound()
	t.Logf("deaths %v, operations %d", h.deaths, h.operations())
}

func (h *history) operations() (n int) {
	for _, ws := range h.writers {
		for _, w := range ws {
			n += w.count
		}
	}
	return n
}

// begin starts a node, with its writers.
func (h *history) begin(n csv.NodeID) {
	h.t.Helper()
	keep, err := handover.Create(h.noted(n))
	must(h.t, err)
	h.lives[n] = &life{incarnation: h.rnd.Uint64() | 1, keep: keep}
	h.attach(n, nil)
	h.write(n)
}

// noted is where a node's processes find what those before have left.
func (h *history) noted(n csv.NodeID) string { return filepath.Join(h.base, name(n)) }

// attach starts a process of a node.
func (h *history) attach(n csv.NodeID, left *client.Resumed) {
	h.t.Helper()
	dev := h.w.open(name(n))
	if n == 1 {
		dev = nowhere{dev}
	}
	h.clients[n] = h.process(n, dev, h.lives[n].incarnation, h.lives[n].keep, left)
}

// another starts the process that goes on where one was killed.
func (h *history) another(n csv.NodeID) {
	h.t.Helper()
	l := h.lives[n]
	must(h.t, l.keep.Close())
	var err error
	l.keep, err = handover.Open(h.noted(n))
	must(h.t, err)
	l.turn++
	h.attach(n, &client.Resumed{Turn: l.turn, Written: l.keep.Unrecorded()})
}

// write starts a node's writers.
func (h *history) write(n csv.NodeID) {
	c := h.clients[n]
	g := &sync.WaitGroup{}
	h.running[n] = g
	for _, w := range h.writers[n] {
		g.Go(func() { w.run(h.t, c, h.stop) })
	}
}

// death waits until one of them has died, and brings it back.
func (h *history) death() {
	h.t.Helper()
	switch kind := h.rnd.IntN(7); kind {
	case 0, 1:
		h.dies("coordinator", func() { h.w.lives["coordinator"]++ })
		h.next()
	case 2:
		n := csv.NodeID(1 + h.rnd.IntN(2))
		h.dies("node", func() { h.w.lives[name(n)]++ })
		h.end(n)
		h.coord.Evict(n)
		must(h.t, h.clients[3-n].Sync(1, false))
		for _, w := range h.writers[n] {
			w.verify(h.t, h.clients[3-n], theNode)
		}
		h.begin(n)
	case 3, 4:
		n := csv.NodeID(1 + h.rnd.IntN(2))
		both := kind == 3
		h.dies("noded", func() {
			h.w.lives[name(n)]++
			if both {
				h.w.lives["coordinator"]++
			}
		})
		h.end(n)
		if both {
			h.next()
		}
		h.another(n)
		for _, w := range h.writers[n] {
			w.verify(h.t, h.clients[3-n], nothing)
		}
		h.write(n)
	default:
		var err error
		h.dies("power", func() { h.w.dev, err = h.w.dev.Crash(background) })
		must(h.t, err)
		h.end(1)
		h.end(2)
		h.next(1, 2)
		reader := h.clientOn(3, h.w.open("node3"))
		for _, ws := range h.writers {
			for _, w := range ws {
				w.verify(h.t, reader, allPower)
			}
		}
		must(h.t, reader.Close(background))
		h.begin(1)
		h.begin(2)
	}
	h.sound()
}

// dies lets something die in the middle of what the writers do.
func (h *history) dies(what string, die func()) {
	h.deaths[what]++
	h.w.after(1+h.rnd.IntN(400), die)
	<-h.w.fired
}

// end is the end of a node's process.
func (h *history) end(n csv.NodeID) {
	h.clients[n].Abort()
	h.running[n].Wait()
}

// next is the coordinator after one that died.
func (h *history) next(evicted ...csv.NodeID) {
	h.t.Helper()
	h.mu.Lock()
	old := h.coord
	h.coord = nil
	h.mu.Unlock()
	old.Abandon()
	h.coordinate(evicted...)
}

// sound checks the volume while it is in use.
func (h *history) sound() {
	h.t.Helper()
	found, err := h.coord.Check(background, false)
	must(h.t, err)
	for _, f := range found.Findings {
		h.t.Errorf("a check finds: %s", f.What)
	}
	if h.t.Failed() {
		h.t.FailNow()
	}
}
