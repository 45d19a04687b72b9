package disk

import (
	"context"
	"fmt"
	"sync"
)

// Memory is a LUN in memory, for tests: its data, its reservations, and the
// nexuses (initiators' sessions) through which they are reached. It enforces
// reservations on reads, writes and flushes as SPC-4 5.13 has it, keeps a queue
// of unit attentions per nexus, and can be restarted, reset and held, so that
// what a real target does in bad moments can be had on demand.
//
// The embedded LUN is a nexus named "memory", for users that need just one.
type Memory struct {
	LUN

	mu sync.Mutex
	// All below is guarded by mu.
	cond   *sync.Cond // signalled when a held write ends
	info   Info
	caps   Capabilities
	blocks map[int64][]byte
	table  table
	nexus  map[string]*nexus
	held   map[string]int // holds by nexus name
	epoch  int            // raised by Restart: ends writes that are held
	inside int            // writes that are past the check and not yet done
	resets int
}

// NewMemory makes a LUN of size bytes, all zero, with blocks of blockSize
// bytes. It supports everything: persistent keys, PREEMPT AND ABORT.
func NewMemory(size int64, blockSize int) *Memory {
	m := &Memory{
		info: Info{
			URL: "memory:", ID: "naa.6000000000000001", Serial: "MEMORY1", Vendor: "QUORATE", Product: "MEMORY",
			Size: size, BlockSize: blockSize,
		},
		caps: Capabilities{
			Reservations: true, Persist: true, PreemptAbort: true, WriteCache: true, FUA: true,
			Types: []Type{WriteExclusive, WriteExclusiveRegistrantsOnly},
		},
		blocks: map[int64][]byte{},
		nexus:  map[string]*nexus{},
		held:   map[string]int{},
	}
	m.cond = sync.NewCond(&m.mu)
	m.LUN = m.Nexus("memory")
	return m
}

// SetInfo changes what Info returns, for tests with several LUNs. Call it
// before the LUN is used.
func (m *Memory) SetInfo(change func(*Info)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.info)
}

// SetCapabilities changes what the target can do. Without Persist a command
// with Persist set is refused, without PreemptAbort so is PreemptAbort.
func (m *Memory) SetCapabilities(change func(*Capabilities)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.caps)
}

// Nexus returns a handle on the nexus of that name, which is made if it is not
// there. Handles of one name share registration and unit attentions; each is
// closed for itself.
func (m *Memory) Nexus(name string) LUN {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nexus[name]
	if n == nil {
		n = &nexus{name: name, session: 1}
		m.nexus[name] = n
	}
	return &handle{m: m, n: n}
}

// Relogin is the loss of the nexus's session and a new one: its next command
// gets unit attention 29/00. With keep the registration stays, as it does on
// LIO; without, it stays behind as a duplicate that belongs to nobody, as on
// tgt.
func (m *Memory) Relogin(name string, keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.nexus[name]
	if n == nil {
		return
	}
	if !keep {
		m.table.orphan(n)
	}
	n.session++
	n.attend(0x29, 0x00)
}

// Restart is a restart of the target: every nexus gets unit attention 29/00 and
// held writes are lost. With forget, keys, reservation and generation are gone.
func (m *Memory) Restart(forget bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.epoch++
	if forget {
		m.table = table{}
	}
	for _, n := range m.nexus {
		n.session++
		n.attend(0x29, 0x00)
	}
	m.cond.Broadcast()
}

// Hold keeps the writes of the named nexus in flight: they pass the check of
// the reservation and then wait, as late writes do, until the returned function
// is called. A reset is not answered before they have ended.
func (m *Memory) Hold(name string) (release func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held[name]++
	var once sync.Once
	return func() {
		once.Do(func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.held[name]--
			m.cond.Broadcast()
		})
	}
}

// InFlight tells how many writes are held in flight.
func (m *Memory) InFlight() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inside
}

// Resets tells how many resets were answered.
func (m *Memory) Resets() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.resets
}

// Attend queues a unit attention for the named nexus.
func (m *Memory) Attend(name string, asc, ascq byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nexus[name]; n != nil {
		n.attend(asc, ascq)
	}
}

func (m *Memory) readLocked(p []byte, off int64) {
	bs := int64(m.info.BlockSize)
	for i := int64(0); i < int64(len(p)); i += bs {
		if b := m.blocks[(off+i)/bs]; b != nil {
			copy(p[i:i+bs], b)
		} else {
			clear(p[i : i+bs])
		}
	}
}

func (m *Memory) writeLocked(p []byte, off int64) {
	bs := int64(m.info.BlockSize)
	for i := int64(0); i < int64(len(p)); i += bs {
		b := m.blocks[(off+i)/bs]
		if b == nil {
			b = make([]byte, bs)
			m.blocks[(off+i)/bs] = b
		}
		copy(b, p[i:i+bs])
	}
}

// waitLocked keeps a write of n in flight while it is held. It heeds no
// context: a write that is in flight lands, whether its sender waits or not.
func (m *Memory) waitLocked(n *nexus) error {
	if m.held[n.name] == 0 {
		return nil
	}
	epoch := m.epoch
	m.inside++
	m.cond.Broadcast()
	defer func() { m.inside--; m.cond.Broadcast() }()
	for m.held[n.name] > 0 && m.epoch == epoch {
		m.cond.Wait()
	}
	if m.epoch != epoch {
		return fmt.Errorf("%s: the target restarted under the write: %w", m.info.URL, ErrPathLost)
	}
	return nil
}

// resetLocked waits until no write is in flight, as a target does before it
// answers.
func (m *Memory) resetLocked(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.cond.Broadcast()
	})
	defer stop()
	for m.inside > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.cond.Wait()
	}
	m.resets++
	for _, n := range m.nexus {
		n.attend(0x29, 0x03)
	}
	return nil
}
