package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"time"

	"quorate/disk"
	"quorate/quorum/witness"
)

// fileServer is an NFSv4 server with one export (RFC 8881): locks are leased to
// clients, reclaimed in a grace period after a restart, and broken when their client
// was silent for its lease. What was written and not committed may be lost with the
// server's power; a client keeps it until then, and sends it again.
type fileServer struct {
	w     *world
	files map[string]*shareFile // by path
	dirs  map[string]bool
	down  bool
	slow  time.Duration // added to each call
	lease time.Duration
	// courteous: the state of a silent client is kept until another one wants what it
	// holds, as Linux does since 5.19.
	courteous bool
	boot      int           // raised at each restart
	grace     time.Duration // until when locks are reclaimed, and no others given
	// reclaims are the clients that may take their locks back in the grace period.
	reclaims map[*mount]bool
}

// newFileServer draws from a source of its own: what else happens in a run without a
// share does not depend on it. first tells whether the cluster begins with its witness
// there.
func newFileServer(w *world) (s *fileServer, first bool) {
	r := rand.New(rand.NewPCG(w.opt.Seed, 0x5a4e))
	return &fileServer{
		w: w, files: map[string]*shareFile{}, dirs: map[string]bool{}, lease: 3*time.Second + time.Duration(r.Int64N(int64(9*time.Second))),
		courteous: r.IntN(2) == 0, reclaims: map[*mount]bool{},
	}, r.IntN(3) == 0 || w.opt.Theme == "share"
}

// restart is one of the server; with power, what was not committed is lost.
func (s *fileServer) restart(power bool) {
	if s.w.e.now >= s.grace {
		clear(s.reclaims) // who has not come back in the grace period before may not now
	}
	for _, name := range sorted(s.files) {
		f := s.files[name]
		if power {
			f.s.lose()
		}
		if f.holder != nil {
			s.reclaims[f.holder.m] = true
			f.holder = nil
		}
	}
	s.boot++
	s.grace = s.w.e.now + s.lease
}

// shareFile is a file as the server has it.
type shareFile struct {
	s      *store
	size   int64
	gone   bool // it was removed
	holder *shareHead
}

// mount is a node's client of the server: a part of its kernel, from one start of it
// to the loss of its power.
type mount struct {
	s     *fileServer
	n     *node
	dead  bool
	boot  int           // of the server, at which its state there is
	seen  time.Duration // when the server heard of it last
	heads []*shareHead  // that are open
	// pending is what was written and is not known to be committed, by file and block.
	pending map[*shareFile]map[int64][]byte
	ticks   bool
	met     bool // the server has heard of it
}

var _ witness.Files = shareFiles{}

// shareFiles is the mount, as one process uses it.
type shareFiles struct {
	m *mount
	p *process
}

// mounted is the node's client, and begins to be one where it is none yet.
func (n *node) mounted() *mount {
	if n.mount == nil {
		n.mount = &mount{s: n.w.server, n: n, seen: n.w.e.now, boot: n.w.server.boot, pending: map[*shareFile]map[int64][]byte{}}
	}
	return n.mount
}

// share is a witness's folder, as a process of the node sees it.
func (n *node) share(p *process, folder string) *witness.Share {
	return witness.NewShare(witness.ShareOptions{Folder: folder, ClusterID: n.w.id, Files: shareFiles{n.mounted(), p}, LogSize: shareLog})
}

// shareLog is the size of the log of a tenure, in bytes.
const shareLog = 4 << 20

func (m *mount) reached() bool { return !m.s.down && !m.n.shareLost && !m.n.frozen }

// contact is what the server and the client do about the client's state at each call.
func (m *mount) contact() {
	s, now := m.s, m.s.w.e.now
	for _, f := range s.files { // the kernel that it had before its loss of power is no more
		if !m.met && f.holder != nil && f.holder.m.n == m.n && f.holder.m.dead {
			f.holder = nil
		}
	}
	m.met = true
	if s.boot != m.boot {
		m.boot = s.boot
		for _, h := range m.heads {
			if may := now < s.grace && s.reclaims[m] && h.f.holder == nil; h.locked && may {
				h.f.holder = h
			} else if h.locked {
				h.lost = true
			}
		}
	}
	if now-m.seen > s.lease && !s.courteous {
		m.expire()
	}
	m.seen = now
	m.heads = slices.DeleteFunc(m.heads, func(h *shareHead) bool {
		over := h.closed || h.p.dead
		if over && h.f.holder == h {
			h.f.holder = nil
		}
		return over
	})
}

// expire has the server break what a client holds.
func (m *mount) expire() {
	for _, h := range m.heads {
		if h.f.holder == h {
			h.f.holder, h.lost = nil, true
			m.s.w.done.Broken++
			m.s.w.tell("share", "breaks the lock of %s", m.n.name)
		}
	}
}

// tick is the kernel's: it renews the lease, and closes what dead processes had open.
func (m *mount) tick() {
	if m.dead || len(m.heads) == 0 {
		m.ticks = false
		return
	}
	due := m.s.w.e.now-m.seen > m.s.lease/3 || slices.ContainsFunc(m.heads, func(h *shareHead) bool { return h.closed || h.p.dead })
	if due && m.reached() {
		m.contact()
	}
	m.s.w.e.after(100*time.Millisecond, nil, m.tick)
}

// call makes a call to the server. It hangs while that does not answer, as that of a
// hard mount does; who has given up may have it done later. early: it is taken in the
// grace period too.
func (f shareFiles) call(ctx context.Context, early bool, do func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, e := f.m, f.m.s.w.e
	s := e.signal()
	var result error
	answer := func(err error) {
		if !s.done {
			result = err
			s.fire()
		}
	}
	if c := contextOf(ctx); c != nil {
		h := c.onEnd(func() { answer(fmt.Errorf("the file server does not answer: %w", c.err)) })
		defer h.remove()
	}
	var try func()
	again := func() { e.after(e.between(50*time.Millisecond, 800*time.Millisecond), nil, try) }
	try = func() {
		switch {
		case m.dead || f.p.dead:
			return
		case !m.reached():
			again()
			return
		}
		e.after(m.s.w.travel()+m.s.slow, nil, func() {
			if m.dead || !m.reached() {
				again()
				return
			}
			m.contact()
			if !early && e.now < m.s.grace {
				again()
				return
			}
			boot, err := m.s.boot, do()
			var back func()
			back = func() {
				switch {
				case m.s.boot != boot: // the answer was lost with the server
					again()
				case !m.reached():
					e.after(e.between(50*time.Millisecond, 800*time.Millisecond), nil, back)
				default:
					answer(err)
				}
			}
			e.after(m.s.w.travel(), nil, back)
		})
	}
	try()
	s.wait()
	return result
}

// Errors as the kernel words them.
var (
	errNoFile = fmt.Errorf("no such file or directory")
	errExists = fmt.Errorf("file exists")
	errStale  = fmt.Errorf("stale file handle")
)

// Mkdir implements witness.Files.
func (f shareFiles) Mkdir(ctx context.Context, dir string) error {
	return f.call(ctx, false, func() error {
		if f.m.s.dirs[dir] {
			return errExists
		}
		f.m.s.dirs[dir] = true
		return nil
	})
}

// Create implements witness.Files.
func (f shareFiles) Create(ctx context.Context, name string, data []byte) error {
	return f.call(ctx, false, func() error {
		if f.m.s.files[name] != nil {
			return errExists
		}
		made := &shareFile{s: newStore(f.m.s.w.e), size: int64(len(data))}
		made.s.write(data, 0)
		made.s.flush()
		f.m.s.files[name] = made
		return nil
	})
}

// Logs implements witness.Files.
func (f shareFiles) Logs(ctx context.Context, folder string) (paths []string, err error) {
	err = f.call(ctx, false, func() error {
		paths = nil
		for _, name := range sorted(f.m.s.files) {
			if path.Dir(name) == folder && strings.HasPrefix(path.Base(name), "log.") {
				paths = append(paths, name)
			}
		}
		return nil
	})
	return paths, err
}

// Remove implements witness.Files.
func (f shareFiles) Remove(ctx context.Context, name string) error {
	return f.call(ctx, false, func() error {
		switch have := f.m.s.files[name]; {
		case have != nil:
			have.gone = true
			delete(f.m.s.files, name)
		case f.m.s.dirs[name]:
			delete(f.m.s.dirs, name)
		default:
			return errNoFile
		}
		return nil
	})
}

// OpenHead implements witness.Files.
func (f shareFiles) OpenHead(ctx context.Context, name string) (witness.Head, error) {
	h := &shareHead{shareFiles: f}
	err := f.call(ctx, false, func() error {
		if h.f = f.m.s.files[name]; h.f == nil {
			return errNoFile
		}
		f.m.heads = append(f.m.heads, h)
		if !f.m.ticks {
			f.m.ticks = true
			f.m.s.w.e.after(0, nil, f.m.tick)
		}
		return nil
	})
	if err != nil {
		h.closed = true
		return nil, err
	}
	return h, nil
}

// OpenLog implements witness.Files.
func (f shareFiles) OpenLog(ctx context.Context, name string, size int64) (witness.LogFile, error) {
	d := &shareLogFile{shareFiles: f}
	err := f.call(ctx, false, func() error {
		if size > 0 {
			if old := f.m.s.files[name]; old != nil {
				old.gone = true
			}
			f.m.s.files[name] = &shareFile{s: newStore(f.m.s.w.e), size: size}
		}
		if d.f = f.m.s.files[name]; d.f == nil {
			return errNoFile
		}
		d.info = disk.Info{URL: name, Size: d.f.size, BlockSize: blockSize}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}
