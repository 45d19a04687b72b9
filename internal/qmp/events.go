package qmp

import "sync/atomic"

// Subscription delivers events of one connection. What a subscriber is too slow
// to take is dropped and counted, never waited for.
type Subscription struct {
	m       *Monitor
	c       chan Event
	names   map[string]bool
	dropped atomic.Int64
}

// Subscribe delivers events of the given names, or all if none is given, from
// now on. The channel is closed when the connection ends or Cancel is called.
func (m *Monitor) Subscribe(names ...string) *Subscription {
	s := &Subscription{m: m, c: make(chan Event, eventBuffer), names: make(map[string]bool, len(names))}
	for _, n := range names {
		s.names[n] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.err != nil {
		close(s.c)
		return s
	}
	m.mu.subs[s] = struct{}{}
	return s
}

// C is where the events come; up to 256 wait there.
func (s *Subscription) C() <-chan Event { return s.c }

// Dropped counts the events that were lost because nobody took them in time.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Cancel ends the subscription and closes its channel. It may be called twice.
func (s *Subscription) Cancel() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if _, ok := s.m.mu.subs[s]; ok {
		delete(s.m.mu.subs, s)
		close(s.c)
	}
}

// offer is called with the monitor's lock held.
func (s *Subscription) offer(e Event) {
	if len(s.names) > 0 && !s.names[e.Name] {
		return
	}
	select {
	case s.c <- e:
	default:
		s.dropped.Add(1)
	}
}
