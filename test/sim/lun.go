package sim

import (
	"context"
	"fmt"
	"slices"
	"time"

	"quorate/disk"
)

// lun is a LUN of the SAN. Its reservations, sessions and unit attentions are
// disk.Memory's, which is asked with empty reads and writes; its data, and the
// time between a command's check and its effect, are its own.
type lun struct {
	w     *world
	name  string
	table *disk.Memory
	s     *store
	down  bool          // the target does not answer
	slow  time.Duration // added to each command
	// aborts: one command in so many is said to be aborted, carried out or not.
	aborts int
	// lingers: every second write lands late, some only after seconds.
	lingers bool
	// inside are the writes past the check of the reservation that have not
	// landed yet.
	inside  int
	waiting []func() // resets that wait for them
	// incarnation is raised when the target restarts.
	incarnation int
	// forgets tells whether a restart of the target loses the keys.
	forgets bool
	// landed is called at each write's landing.
	landed []func(from *nexus, off int64, p []byte)
}

func newLUN(w *world, name string, size int64) *lun {
	l := &lun{w: w, name: name, table: disk.NewMemory(size, blockSize), s: newStore(w.e)}
	l.table.SetInfo(func(i *disk.Info) { i.ID, i.URL, i.Serial = "naa."+name, "iscsi://san/"+name, name })
	l.forgets = w.e.chance(2)
	if l.forgets {
		l.table.SetCapabilities(func(c *disk.Capabilities) { c.Persist = false })
	}
	return l
}

// restart is a restart of the target: all that is under way is lost, and with
// power the cache too.
func (l *lun) restart(power bool) {
	if power {
		l.s.lose()
	}
	l.incarnation++
	l.inside = 0
	for _, done := range l.waiting {
		done()
	}
	l.waiting = nil
	l.table.Restart(l.forgets)
	if l.forgets {
		l.w.checks.key.forgot(l)
	}
}

// nexus is one opening of a LUN by a process. All openings of an initiator for one
// purpose share session, key and unit attentions.
type nexus struct {
	l      *lun
	n      *node
	p      *process
	name   string
	h      disk.LUN
	key    disk.Key // for the checkers: what a volume's attachment writes with
	closed bool
	// broken: the session was lost; the next command that arrives makes another.
	broken bool
}

var (
	_ disk.LUN       = (*nexus)(nil)
	_ disk.Sessioned = (*nexus)(nil)
)

// open logs in from a node: a new session, with its unit attention.
func (l *lun) open(n *node, p *process, purpose string) (*nexus, error) {
	name := n.name + "/" + purpose
	l.w.e.sleep(l.w.e.between(time.Millisecond, 5*time.Millisecond))
	if !l.reached(n) {
		l.w.e.sleep(3 * time.Second)
		return nil, fmt.Errorf("log in to %s: %w", l.name, disk.ErrPathLost)
	}
	x := &nexus{l: l, n: n, p: p, name: name, h: l.table.Nexus(name)}
	// As tgt has it: the registration belongs to the session before.
	l.table.Relogin(name, !l.forgets)
	return x, nil
}

func (l *lun) reached(n *node) bool { return !l.down && !n.pathLost[l] }

// Session implements disk.Sessioned.
func (x *nexus) Session() uint64 { return x.h.(disk.Sessioned).Session() }

// Info implements disk.Device.
func (x *nexus) Info() disk.Info { return x.l.table.Info() }

// abortedCommand is SCSI's sense key.
const abortedCommand = 0x0b

// commandTimeout is after how long a command that is not answered fails.
const commandTimeout = 3 * time.Second

// await is what a command's sender waits for: its answer, the end of its context,
// or the loss of the path. start is called when the command has arrived; it must
// call done at some time, or never.
func (x *nexus) await(ctx context.Context, start func(done func(error))) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if x.closed || x.p.dead {
		return fmt.Errorf("%s: %w", x.l.name, disk.ErrClosed)
	}
	e := x.l.w.e
	s := e.signal()
	var result error
	answer := func(err error) {
		if !s.done {
			result = err
			s.fire()
		}
	}
	if c := contextOf(ctx); c != nil {
		h := c.onEnd(func() { answer(c.err) })
		defer h.remove()
	}
	e.after(x.l.w.travel()+x.l.slow, nil, func() {
		if !x.l.reached(x.n) {
			return
		}
		if x.broken {
			x.broken = false
			x.l.table.Relogin(x.name, !x.l.forgets)
		}
		aborted := x.l.aborts > 0 && e.chance(x.l.aborts)
		if aborted && e.chance(2) { // or when it has been carried out
			e.after(x.l.w.travel(), nil, func() { answer(&disk.SenseError{Key: abortedCommand}) })
			return
		}
		start(func(err error) {
			if aborted {
				err = &disk.SenseError{Key: abortedCommand}
			}
			e.after(x.l.w.travel(), nil, func() {
				if x.l.reached(x.n) {
					answer(err)
				}
			})
		})
	})
	e.after(commandTimeout, nil, func() {
		if !s.done {
			x.broken = true
			answer(fmt.Errorf("%s does not answer: %w", x.l.name, disk.ErrPathLost))
		}
	})
	s.wait()
	return result
}

// ReadAt implements disk.Device.
func (x *nexus) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(x.Info(), off, len(p)); err != nil {
		return err
	}
	over := false // and what arrives late must not be written over what the caller has moved on to
	err := x.await(ctx, func(done func(error)) {
		err := x.h.ReadAt(bound(ctx), nil, off)
		if err == nil && !over {
			x.l.s.read(p, off)
		}
		done(err)
	})
	over = true
	return err
}

// bound takes along what a command is bound to, and not when its sender gives up.
func bound(ctx context.Context) context.Context {
	return disk.OnSession(context.Background(), disk.SessionOf(ctx))
}

// WriteAt implements disk.Device. Between the check of the reservation and the
// landing lies time, in which a PREEMPT may be answered.
func (x *nexus) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := disk.CheckRange(x.Info(), off, len(p)); err != nil {
		return err
	}
	buf := slices.Clone(p)
	return x.await(ctx, func(done func(error)) {
		if err := x.h.WriteAt(bound(ctx), nil, off); err != nil {
			done(err)
			return
		}
		x.l.inside++
		incarnation := x.l.incarnation
		x.l.w.e.after(x.l.w.landing(x.l), nil, func() {
			if x.l.incarnation != incarnation {
				return // lost with the target
			}
			x.l.s.write(buf, off)
			for _, f := range x.l.landed {
				f(x, off, buf)
			}
			x.l.leave()
			done(nil)
		})
	})
}

func (l *lun) leave() {
	l.inside--
	if l.inside == 0 {
		for _, done := range l.waiting {
			done()
		}
		l.waiting = nil
	}
}

// Flush implements disk.Device.
func (x *nexus) Flush(ctx context.Context) error {
	return x.await(ctx, func(done func(error)) {
		err := x.h.Flush(bound(ctx))
		if err == nil {
			x.l.s.flush()
		}
		done(err)
	})
}

// Reservations implements disk.Reserver.
func (x *nexus) Reservations(ctx context.Context) (disk.Reservations, error) {
	var r disk.Reservations
	err := x.await(ctx, func(done func(error)) {
		got, err := x.h.Reservations(bound(ctx))
		r = got
		done(err)
	})
	if err != nil {
		return disk.Reservations{}, err
	}
	return r, nil
}

// Reserve implements disk.Reserver.
func (x *nexus) Reserve(ctx context.Context, r disk.ReserveOut) error {
	return x.await(ctx, func(done func(error)) {
		err := x.h.Reserve(bound(ctx), r)
		if err == nil {
			x.l.w.checks.key.reserved(x, r)
		}
		done(err)
	})
}

// ResetUnit implements disk.Reserver: it is answered when no write is under way.
func (x *nexus) ResetUnit(ctx context.Context) error {
	return x.await(ctx, func(done func(error)) {
		finish := func() { done(x.h.ResetUnit(context.Background())) }
		if x.l.inside == 0 {
			finish()
			return
		}
		x.l.waiting = append(x.l.waiting, finish)
	})
}

// Capabilities implements disk.Reserver.
func (x *nexus) Capabilities(ctx context.Context) (disk.Capabilities, error) {
	var c disk.Capabilities
	err := x.await(ctx, func(done func(error)) {
		got, err := x.h.Capabilities(bound(ctx))
		c = got
		done(err)
	})
	if err != nil {
		return disk.Capabilities{}, err
	}
	return c, nil
}

// Close implements disk.Device.
func (x *nexus) Close() error {
	x.closed = true
	return nil
}
