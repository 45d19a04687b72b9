package mount_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// content is what a file should hold: what was durable when it was synced last, and
// what was written since, oldest first.
type content struct {
	base  []byte
	later []patch
	// solid are the blocks of the volume that were written and are recorded: what is
	// written there is there, whoever dies. touched are those written since.
	solid, touched blocks
}

// blocks is a set of the first blocks of a file.
type blocks uint64

// blocksOf are those that [lo, hi) touches.
func blocksOf(lo, hi int64) (b blocks) {
	for n := lo / volume.BlockSize; n*volume.BlockSize < hi; n++ {
		b |= 1 << n
	}
	return b
}

// within are those that lie within [lo, hi) whole.
func within(lo, hi int64) blocks {
	return blocksOf((lo+volume.BlockSize-1)/volume.BlockSize*volume.BlockSize, hi/volume.BlockSize*volume.BlockSize)
}

// recorded is c when the coordinator has been told.
func (c content) recorded() content {
	c.solid, c.touched = c.solid|c.touched, 0
	return c
}

// loss is what has died since something was written.
type loss int

const (
	nothing  loss = iota // or a coordinator, or a process for which another goes on
	theNode              // that wrote it
	allPower             // and the LUN's cache
)

type patch struct {
	off  int64
	data []byte
}

// latest is the file as it reads while nobody loses power.
func (c content) latest() []byte {
	b := slices.Clone(c.base)
	for _, p := range c.later {
		if need := p.off + int64(len(p.data)); need > int64(len(b)) {
			b = append(b, make([]byte, need-int64(len(b)))...)
		}
		copy(b[p.off:], p.data)
	}
	return b
}

// resized is the file with another length, which is durable at once.
func (c content) resized(size int64) content {
	fit := func(b []byte) []byte {
		b = b[:min(size, int64(len(b)))]
		return append(slices.Clone(b), make([]byte, size-int64(len(b)))...)
	}
	c = c.recorded()
	out := content{base: fit(c.base), solid: c.solid &^ within(size, maxFile*2)}
	for _, p := range c.later {
		if p.off < size {
			out.later = append(out.later, patch{p.off, p.data[:min(int64(len(p.data)), size-p.off)]})
		}
	}
	return out
}

// writer does random things in a directory of its own, one at a time, and knows what
// must be there.
type writer struct {
	n     int
	rnd   *rand.Rand
	files map[string]content
	count int

	// pending is what was under way when the writer's node died.
	pending pending
}

// pending is an operation of which some may have been done.
type pending struct {
	path  string
	data  patch              // bytes that may be there
	sizes [2]int64           // between which the file's length may be
	names map[string]content // the files, if it was done; nil: names do not change
}

func newWriter(n int, seed uint64) *writer {
	return &writer{n: n, rnd: rand.New(rand.NewPCG(seed, uint64(n))), files: map[string]content{}}
}

func (w *writer) dir() string { return fmt.Sprintf("w%d", w.n) }

// run works until stop is closed or the client ends.
func (w *writer) run(t testing.TB, c *node, stop <-chan struct{}) {
	dir, err := c.Lookup(1, w.dir())
	if errors.Is(err, syscall.ENOENT) {
		dir, err = c.Create(&csvpb.Create{Dir: 1, Name: []byte(w.dir()), Mode: syscall.S_IFDIR | 0o755})
	}
	for err == nil {
		select {
		case <-stop:
			return
		default:
		}
		w.pending = pending{}
		err = w.step(c, dir.Ino)
		w.count++
	}
	if !errors.Is(err, syscall.EIO) || c.Status().Access.String() != "fenced" {
		t.Errorf("writer %d: %v", w.n, err)
	}
}

// maxFile is how long the files get, in bytes.
const maxFile = 300_000

// step does one thing. What it may leave half done is noted before.
func (w *writer) step(c *node, dir uint64) error {
	name := fmt.Sprint("f", w.rnd.IntN(3))
	old, is := w.files[name]
	if !is {
		after := maps.Clone(w.files)
		after[name] = content{}
		w.pending.names = after
		if _, err := c.Create(&csvpb.Create{Dir: dir, Name: []byte(name), Mode: regular}); err != nil {
			return err
		}
		w.files = after
		return nil
	}
	i, err := c.Lookup(dir, name)
	if err != nil {
		return err
	}
	switch w.rnd.IntN(12) {
	case 0:
		return w.rename(c, dir, name)
	case 1:
		after := maps.Clone(w.files)
		delete(after, name)
		w.pending.names = after
		if err := c.Remove(dir, name, false); err != nil {
			return err
		}
		w.files = after
	case 2:
		return w.resize(c, i.Ino, name, old)
	case 3, 4:
		if err := c.Sync(i.Ino, w.rnd.IntN(2) == 0); err != nil {
			return err
		}
		w.files[name] = content{base: old.latest(), solid: old.recorded().solid}
	case 5:
		return w.punch(c, i.Ino, name, old)
	default:
		return w.write(c, i.Ino, name, old)
	}
	return nil
}

func (w *writer) write(c *node, ino uint64, name string, old content) error {
	off, size := w.rnd.Int64N(maxFile/2), 1+w.rnd.Int64N(maxFile/2)
	if w.rnd.IntN(2) == 0 {
		off, size = off/4096*4096, min(size, 8192)
	}
	p := patch{off, bytes.Repeat([]byte{byte(1 + w.rnd.IntN(120))}, int(size))}
	have := int64(len(old.latest()))
	w.pending = pending{path: name, data: p, sizes: [2]int64{have, max(have, off+size)}}
	if err := c.Write(ino, p.data, off); err != nil {
		return err
	}
	old.later, old.touched = append(slices.Clip(old.later), p), old.touched|blocksOf(off, off+size)
	w.files[name] = old
	return nil
}

func (w *writer) resize(c *node, ino uint64, name string, old content) error {
	size := w.rnd.Int64N(maxFile)
	have := int64(len(old.latest()))
	w.pending = pending{path: name, sizes: [2]int64{min(have, size), max(have, size)}}
	if _, err := c.SetAttr(&csvpb.SetAttr{Ino: ino, Size: &size}); err != nil {
		return err
	}
	w.files[name] = old.resized(size)
	return nil
}

func (w *writer) punch(c *node, ino uint64, name string, old content) error {
	have := int64(len(old.latest()))
	off, size := w.rnd.Int64N(maxFile), 1+w.rnd.Int64N(maxFile)
	end := min(off+size, have)
	if off >= end {
		return nil
	}
	zeros := patch{off, make([]byte, end-off)}
	w.pending = pending{path: name, data: zeros, sizes: [2]int64{have, have}}
	const keepSizePunchHole = 3
	if err := c.Allocate(ino, keepSizePunchHole, off, size); err != nil {
		return err
	}
	now := old.latest() // durable, but for what was not synced around it
	old = old.recorded()
	next := content{base: slices.Clone(old.base), solid: old.solid &^ within(off, off+size)}
	for _, p := range old.later {
		next.later = append(next.later, cutOut(p, off, end)...)
	}
	next = next.resized(int64(len(now)))
	clear(next.base[off:end])
	w.files[name] = next
	return nil
}

// cutOut is p without [lo, hi).
func cutOut(p patch, lo, hi int64) (out []patch) {
	end := p.off + int64(len(p.data))
	if p.off < lo {
		out = append(out, patch{p.off, p.data[:min(end, lo)-p.off]})
	}
	if end > hi {
		from := max(p.off, hi)
		out = append(out, patch{from, p.data[from-p.off:]})
	}
	return out
}

func (w *writer) rename(c *node, dir uint64, name string) error {
	to := fmt.Sprint("f", w.rnd.IntN(3))
	if to == name {
		return nil
	}
	after := maps.Clone(w.files)
	after[to] = after[name]
	delete(after, name)
	w.pending.names = after
	if err := c.Rename(dir, name, dir, to, 0); err != nil {
		return err
	}
	w.files = after
	return nil
}

// verify compares what is there with what may be, and goes on from there. c is a
// client that reads.
func (w *writer) verify(t testing.TB, c *node, lost loss) {
	t.Helper()
	got := w.read(t, c)
	why := w.differs(got, w.files, lost)
	if why != "" && w.pending.names != nil {
		why = w.differs(got, w.pending.names, lost)
	}
	if why != "" {
		t.Fatalf("writer %d after %d operations: %s", w.n, w.count, why)
	}
	w.files, w.pending = map[string]content{}, pending{}
	for name, b := range got {
		w.files[name] = content{base: b}
	}
}

func (w *writer) read(t testing.TB, c *node) map[string][]byte {
	t.Helper()
	dir, err := c.Lookup(1, w.dir())
	if errors.Is(err, syscall.ENOENT) && len(w.files) == 0 {
		return nil
	}
	must(t, err)
	es, err := c.ReadDir(dir.Ino)
	must(t, err)
	got := map[string][]byte{}
	for _, e := range es {
		i, err := c.Stat(e.Ino)
		must(t, err)
		b := make([]byte, i.Size)
		n, err := c.Read(e.Ino, b, 0)
		must(t, err)
		got[string(e.Name)] = b[:n]
	}
	return got
}

// differs says what is not as it may be, "" where nothing is.
func (w *writer) differs(got map[string][]byte, want map[string]content, lost loss) string {
	for name := range got {
		if _, ok := want[name]; !ok {
			return name + " should not be there"
		}
	}
	for name, c := range want {
		b, ok := got[name]
		if !ok {
			return name + " is missing"
		}
		may := pending{}
		if w.pending.path == name {
			may = w.pending
		}
		if why := c.allows(b, may, lost); why != "" {
			return name + ": " + why
		}
	}
	return ""
}

// allows says why b cannot be the file, "" where it can.
func (c content) allows(b []byte, may pending, lost loss) string {
	now := c.latest()
	lo, hi := int64(len(now)), int64(len(now))
	if may.path != "" {
		lo, hi = may.sizes[0], may.sizes[1]
	}
	if lost != nothing { // that it got longer since may be lost
		lo = min(lo, int64(len(c.base)))
	}
	if n := int64(len(b)); n < lo || n > hi {
		return fmt.Sprintf("%d bytes, was last %d, should be from %d to %d", n, len(now), lo, hi)
	}
	at := func(p patch, i int) (byte, bool) {
		n := int64(i) - p.off
		if n < 0 || n >= int64(len(p.data)) {
			return 0, false
		}
		return p.data[n], true
	}
	for i, v := range b {
		ok := i >= len(now) && v == 0 || i < len(now) && now[i] == v
		if x, is := at(may.data, i); is {
			ok = ok || v == x
		}
		solid := i < len(c.base) && c.solid&(1<<(i/volume.BlockSize)) != 0
		if (lost == allPower || lost == theNode && !solid) && !ok {
			ok = i < len(c.base) && c.base[i] == v || i >= len(c.base) && v == 0
			for _, p := range c.later {
				x, is := at(p, i)
				ok = ok || is && x == v
			}
		}
		if !ok {
			was := byte(0)
			if i < len(now) {
				was = now[i]
			}
			return fmt.Sprintf("byte %d of %d is %#x, was last %#x", i, len(b), v, was)
		}
	}
	return ""
}
