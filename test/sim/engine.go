package sim

import (
	"container/heap"
	"fmt"
	"iter"
	"math/rand/v2"
	"time"
)

// engine is a virtual clock with a queue of events. One thing happens at a time:
// an event, or the stretch of a coroutine up to where it waits.
type engine struct {
	now  time.Duration // since the beginning of the run
	seq  uint64
	q    queue
	rand *rand.Rand
	cur  *coroutine // that runs now, or nil
	all  map[*coroutine]struct{}
	// hash is over what happened when and where: it tells two runs apart.
	hash uint64
}

func newEngine(seed uint64) *engine {
	return &engine{rand: rand.New(rand.NewPCG(seed, 0x51e)), all: map[*coroutine]struct{}{}, hash: 14695981039346656037}
}

// event is something that happens at a time, in a process or outside of all.
type event struct {
	at   time.Duration
	seq  uint64
	proc *process
	do   func()
}

type queue []*event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(*event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

// after has do happen in a process, d from now; nil is outside of all. What is to
// happen in a process that has ended does not; in one that stands still it
// happens when that goes on.
func (e *engine) after(d time.Duration, p *process, do func()) {
	e.seq++
	heap.Push(&e.q, &event{at: e.now + max(d, 0), seq: e.seq, proc: p, do: do})
}

// run lets time pass until then.
func (e *engine) run(until time.Duration) {
	for len(e.q) > 0 && e.q[0].at <= until {
		ev := heap.Pop(&e.q).(*event)
		e.now = ev.at
		if p := ev.proc; p != nil && p.still && !p.dead {
			p.due = append(p.due, ev.do)
			continue
		}
		e.happen(ev.proc, ev.do)
	}
	e.now = until
}

func (e *engine) happen(p *process, do func()) {
	if p != nil {
		if p.dead {
			return
		}
		if p.still {
			p.backlog = append(p.backlog, do)
			return
		}
		e.mix(uint64(p.id))
	}
	e.mix(uint64(e.now))
	do()
}

// mix takes a number into the run's hash (FNV-1a by words).
func (e *engine) mix(v uint64) { e.hash = (e.hash ^ v) * 1099511628211 }

// chance is true once in n times.
func (e *engine) chance(n int) bool { return e.rand.IntN(n) == 0 }

// between draws a duration.
func (e *engine) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(e.rand.Int64N(int64(hi-lo)+1))
}

// process is what crashes, stands still and goes on as one.
type process struct {
	e       *engine
	id      int
	name    string
	dead    bool
	still   bool
	backlog []func() // what came over a connection, in its order
	due     []func() // what its clock would have had it do
	woke    time.Duration
	mine    []*coroutine
}

// awake tells whether all threads of the process run.
func (p *process) awake() bool { return !p.dead && !p.still && p.e.now >= p.woke }

// maxBacklog is how many messages wait for a process that stands still.
const maxBacklog = 200

// kill ends the process where it is: its coroutines are unwound, and nothing that
// they do on the way has an effect.
func (p *process) kill() {
	if p.dead {
		return
	}
	p.dead, p.backlog, p.due = true, nil, nil
	// One that kills its own process goes on to where it waits next.
	for _, c := range p.mine {
		if c != p.e.cur {
			c.end()
		}
	}
	p.mine = nil
}

// hold has the process stand still; cont lets it go on, with all that came
// meanwhile. What was due by then is done in any order, as its threads have it.
func (p *process) hold() { p.still = true }

func (p *process) cont() {
	if !p.still {
		return
	}
	p.still, p.woke = false, p.e.now+wakeWithin
	for _, do := range p.backlog {
		p.e.after(0, p, do)
	}
	for _, do := range p.due {
		p.e.after(p.e.between(0, wakeWithin), p, do)
	}
	p.backlog, p.due = nil, nil
}

// wakeWithin is how long it takes until all threads of a process run again.
const wakeWithin = 2 * time.Millisecond

// coroutine is code that waits: it runs in a goroutine of its own, but never at
// the same time as anything else.
type coroutine struct {
	p     *process
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	over  bool
}

// unwound is what ends a coroutine whose process was killed.
type unwound struct{}

// spawn begins f as a coroutine of the process.
func (p *process) spawn(f func()) {
	if p.dead {
		return
	}
	c := &coroutine{p: p}
	c.next, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		c.yield = yield
		defer func() {
			c.over = true
			delete(p.e.all, c)
			if r := recover(); r != nil {
				switch r.(type) {
				case unwound:
				case *Violation:
					panic(r)
				default: // whoever catches it has another stack
					panic(&Violation{Checker: "panic", At: p.e.now, What: fmt.Sprintf("%v\n%s", r, stack())})
				}
			}
		}()
		f()
	})
	p.e.all[c] = struct{}{}
	p.tidy()
	p.mine = append(p.mine, c)
	p.e.after(0, p, c.resume)
}

// tidy forgets the coroutines that are over, now and then.
func (p *process) tidy() {
	if len(p.mine) < 32 || len(p.mine)&(len(p.mine)-1) != 0 {
		return
	}
	kept := p.mine[:0]
	for _, c := range p.mine {
		if !c.over {
			kept = append(kept, c)
		}
	}
	clear(p.mine[len(kept):])
	p.mine = kept
}

func (c *coroutine) resume() {
	if c.over {
		return
	}
	before := c.p.e.cur
	c.p.e.cur = c
	defer func() { c.p.e.cur = before }()
	c.next()
}

func (c *coroutine) end() {
	if c.over {
		return
	}
	before := c.p.e.cur
	c.p.e.cur = c
	defer func() { c.p.e.cur = before }()
	c.stop()
	c.over = true
	delete(c.p.e.all, c)
}

// park gives control back until the coroutine is resumed.
func (c *coroutine) park() {
	if c.p.dead || !c.yield(struct{}{}) || c.p.dead {
		panic(unwound{})
	}
}

// close ends everything that still waits.
func (e *engine) close() {
	for c := range e.all {
		c.p.dead = true
	}
	for c := range e.all {
		c.end()
	}
}

// signal lets one coroutine wait for something that happens once.
type signal struct {
	c    *coroutine
	done bool
	on   bool // the coroutine waits
}

// signal makes one for the coroutine that runs.
func (e *engine) signal() *signal {
	if e.cur == nil {
		panic("sim: only a coroutine can wait")
	}
	return &signal{c: e.cur}
}

// fire says that it has happened; again does nothing.
func (s *signal) fire() {
	if s.done {
		return
	}
	s.done = true
	if s.on {
		s.c.p.e.after(0, s.c.p, s.c.resume)
	}
}

// fireNow is fire, and has the coroutine go on at once where nothing else runs: for
// what happens often.
func (s *signal) fireNow() {
	p := s.c.p
	if s.done || !s.on || p.e.cur != nil || p.still || p.dead {
		s.fire()
		return
	}
	s.done = true
	s.c.resume()
}

// wait returns once it has happened.
func (s *signal) wait() {
	if s.done {
		if s.c.p.dead {
			panic(unwound{})
		}
		return
	}
	s.on = true
	s.c.park()
}

// waitFor is wait, but not for longer than d; it tells whether it happened.
func (s *signal) waitFor(d time.Duration) bool {
	happened := true
	if !s.done {
		s.c.p.e.after(d, s.c.p, func() {
			if !s.done {
				happened = false
				s.fire()
			}
		})
	}
	s.wait()
	return happened
}

// sleep waits for d.
func (e *engine) sleep(d time.Duration) {
	s := e.signal()
	e.after(d, s.c.p, s.fire)
	s.wait()
}

// lock keeps coroutines from each other over what they wait for. It implements
// sync.Locker.
type lock struct {
	e      *engine
	held   bool
	queued []*signal
}

// Lock implements sync.Locker.
func (l *lock) Lock() {
	for l.held {
		s := l.e.signal()
		l.queued = append(l.queued, s)
		s.wait()
	}
	l.held = true
}

// Unlock implements sync.Locker.
func (l *lock) Unlock() {
	l.held = false
	for len(l.queued) > 0 {
		s := l.queued[0]
		l.queued = l.queued[1:]
		if !s.c.over && !s.c.p.dead {
			s.fire()
			return
		}
	}
}
