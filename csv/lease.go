package csv

import (
	"cmp"
	"slices"
)

// Mode is what a client may do with what it remembers of an inode.
type Mode uint8

// The modes, each allowing what the one before it does.
const (
	// None: nothing; it must ask.
	None Mode = iota
	// Shared: attributes and extents may be used, to read and to overwrite
	// space that was written before.
	Shared
	// Exclusive: also to write into space that was never written, and past
	// the end. At most one client holds it, and then nobody holds Shared.
	Exclusive
)

// Claim is a lease on one inode, as a client reports it to a new coordinator.
type Claim struct {
	Ino  uint64
	Mode Mode
}

// Recall asks Holder to come down to Keep on Ino.
type Recall struct {
	Holder NodeID
	Ino    uint64
	Keep   Mode
}

type lease struct {
	mode Mode
	// asked is set while a recall is under way; keep is its target.
	asked bool
	keep  Mode
	// ask numbers that recall: where it was asked for again, or for more, it is the first.
	ask uint64
	// grant numbers the last time that it was given.
	grant uint64
}

// Leases is the coordinator's table of who remembers what.
type Leases struct {
	byIno  map[uint64]map[NodeID]*lease
	grants uint64
	asks   uint64
}

// NewLeases returns an empty table.
func NewLeases() *Leases { return &Leases{byIno: make(map[uint64]map[NodeID]*lease)} }

// Mode returns what holder has on ino.
func (t *Leases) Mode(holder NodeID, ino uint64) Mode {
	if l := t.byIno[ino][holder]; l != nil {
		return l.mode
	}
	return None
}

// Blockers tells what stands against holder getting want on ino, and returns
// the recalls that were not asked for yet; it marks them as asked. ok means that
// nothing stands against it.
func (t *Leases) Blockers(holder NodeID, ino uint64, want Mode) (ask []Recall, ok bool) {
	keep := None
	switch want {
	case None:
		return nil, true
	case Shared:
		keep = Shared
	}
	return t.above(ino, keep, holder)
}

// Exclude is Blockers for a change that nobody may see half of, the one who
// asked for it included: it recalls every lease on ino.
func (t *Leases) Exclude(ino uint64) (ask []Recall, ok bool) { return t.above(ino, None, 0) }

// above collects the leases over keep of everybody but except.
func (t *Leases) above(ino uint64, keep Mode, except NodeID) (ask []Recall, ok bool) {
	ok = true
	for n, l := range t.byIno[ino] {
		if n == except || l.mode <= keep {
			continue
		}
		ok = false
		if l.asked && l.keep <= keep {
			continue
		}
		if !l.asked {
			t.asks++
			l.ask = t.asks
		}
		l.asked, l.keep = true, keep
		ask = append(ask, Recall{Holder: n, Ino: ino, Keep: keep})
	}
	slices.SortFunc(ask, func(a, b Recall) int { return cmp.Compare(a.Holder, b.Holder) })
	return ask, ok
}

// Owing tells which holders were asked to come down on something and have not answered,
// each with the number of the oldest such recall. Who answers one after the other has
// another number each time.
func (t *Leases) Owing() map[NodeID]uint64 {
	out := map[NodeID]uint64{}
	for _, m := range t.byIno {
		for n, l := range m {
			if have, ok := out[n]; l.asked && (!ok || l.ask < have) {
				out[n] = l.ask
			}
		}
	}
	return out
}

// Grant gives holder at least mode on ino, and returns the number of the grant,
// which goes to the holder with it; 0 for None. The caller has made sure, by
// Blockers, that nothing stands against it.
func (t *Leases) Grant(holder NodeID, ino uint64, mode Mode) uint64 {
	if mode == None {
		return 0
	}
	m := t.byIno[ino]
	if m == nil {
		m = make(map[NodeID]*lease)
		t.byIno[ino] = m
	}
	l := m[holder]
	if l == nil {
		l = &lease{}
		m[holder] = l
	}
	l.mode = max(l.mode, mode)
	t.grants++
	l.grant = t.grants
	return l.grant
}

// Settle records that holder came down to mode on ino, having seen the grants up
// to seen. Where a later grant is on its way to it, holder will have it again
// after all: nothing changes, and Blockers will recall once more.
func (t *Leases) Settle(holder NodeID, ino uint64, mode Mode, seen uint64) {
	l := t.byIno[ino][holder]
	if l == nil {
		return
	}
	if l.grant > seen {
		l.asked = false
		return
	}
	l.mode = min(l.mode, mode)
	if l.asked && l.mode <= l.keep {
		l.asked = false
	}
	if l.mode == None {
		delete(t.byIno[ino], holder)
		if len(t.byIno[ino]) == 0 {
			delete(t.byIno, ino)
		}
	}
}

// Replace forgets what holder had and takes claims instead: holder has come back
// and said what it holds. The recalls that were under way, and that it still owes, are
// to be sent again; it owes them since they were asked for first: to come back is no
// answer.
func (t *Leases) Replace(holder NodeID, claims []Claim) (ask []Recall) {
	owed := map[uint64]lease{}
	for ino, m := range t.byIno {
		if l := m[holder]; l != nil && l.asked {
			owed[ino] = *l
		}
	}
	t.Drop(holder)
	for _, c := range claims {
		t.Grant(holder, c.Ino, c.Mode)
		if l := t.byIno[c.Ino][holder]; l != nil {
			l.grant = 0 // what it holds, it has seen
			if before, ok := owed[c.Ino]; ok && l.mode > before.keep {
				l.asked, l.keep, l.ask = true, before.keep, before.ask
				ask = append(ask, Recall{Holder: holder, Ino: c.Ino, Keep: l.keep})
			}
		}
	}
	return ask
}

// Drop forgets every lease of holder, which cannot act upon them any more.
func (t *Leases) Drop(holder NodeID) {
	for ino, m := range t.byIno {
		delete(m, holder)
		if len(m) == 0 {
			delete(t.byIno, ino)
		}
	}
}
