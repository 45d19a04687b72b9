package disk

import (
	"fmt"
	"slices"
)

// table is a Memory's registrations and reservation (SPC-4 5.13). The zero
// value is that of a target that has forgotten everything.
type table struct {
	generation uint32
	regs       []registration
	holder     *nexus // nil for all-registrants types and where there is none
	kind       Type   // zero where there is no reservation
}

type registration struct {
	n   *nexus
	key Key
}

func allRegistrants(t Type) bool { return t == 7 || t == 8 }

func (t *table) keyOf(n *nexus) Key {
	for _, r := range t.regs {
		if r.n == n {
			return r.key
		}
	}
	return 0
}

func (t *table) mayWrite(n *nexus) bool {
	switch t.kind {
	case 0:
		return true
	case 5, 6, 7, 8:
		return t.keyOf(n) != 0
	}
	return t.holder == n
}

func (t *table) mayRead(n *nexus) bool {
	switch t.kind {
	case 3, 6, 8:
		return t.mayWrite(n)
	}
	return true
}

func (t *table) read() Reservations {
	r := Reservations{Generation: t.generation, Type: t.kind}
	for _, reg := range t.regs {
		r.Keys = append(r.Keys, reg.key)
	}
	if t.holder != nil {
		r.Holder = t.keyOf(t.holder)
	}
	return r
}

// orphan gives the registration of n to a nexus that nobody has.
func (t *table) orphan(n *nexus) {
	gone := &nexus{name: n.name + " (gone)"}
	for i := range t.regs {
		if t.regs[i].n == n {
			t.regs[i].n = gone
		}
	}
	if t.holder == n {
		t.holder = gone
	}
}

func (t *table) apply(n *nexus, r ReserveOut) error {
	switch r.Action {
	case Register:
		if t.keyOf(n) != r.Key {
			return t.refuse(n, r)
		}
		t.register(n, r.ServiceKey)
		return nil
	case RegisterIgnore:
		t.register(n, r.ServiceKey)
		return nil
	}
	if k := t.keyOf(n); k == 0 || k != r.Key {
		return t.refuse(n, r)
	}
	switch r.Action {
	case ReserveAction:
		return t.reserve(n, r)
	case Release:
		return t.release(n, r)
	case Clear:
		t.generation++
		for _, reg := range t.regs {
			if reg.n != n {
				reg.n.attend(0x2a, 0x03)
			}
		}
		t.regs, t.holder, t.kind = nil, nil, 0
		return nil
	case Preempt, PreemptAbort:
		return t.preempt(n, r)
	}
	return &SenseError{Key: 5, ASC: 0x24}
}

func (t *table) refuse(n *nexus, r ReserveOut) error {
	return fmt.Errorf("PERSISTENT RESERVE OUT, action %d, by nexus %q with key %s: %w", r.Action, n.name, r.Key, ErrConflict)
}

func (t *table) register(n *nexus, k Key) {
	t.generation++
	i := slices.IndexFunc(t.regs, func(r registration) bool { return r.n == n })
	switch {
	case k == 0 && i >= 0:
		t.remove(i)
	case k == 0:
	case i >= 0:
		t.regs[i].key = k
	default:
		t.regs = append(t.regs, registration{n: n, key: k})
	}
}

// remove takes registration i away, and the reservation with it where it
// cannot stand without (SPC-4 5.13.11.2).
func (t *table) remove(i int) {
	n := t.regs[i].n
	t.regs = slices.Delete(t.regs, i, i+1)
	if t.kind == 0 || (allRegistrants(t.kind) && len(t.regs) > 0) || (!allRegistrants(t.kind) && t.holder != n) {
		return
	}
	if t.kind >= 5 {
		for _, r := range t.regs {
			r.n.attend(0x2a, 0x04)
		}
	}
	t.holder, t.kind = nil, 0
}

func (t *table) reserve(n *nexus, r ReserveOut) error {
	if t.kind != 0 {
		if t.kind == r.Type && (t.holder == n || allRegistrants(t.kind)) {
			return nil
		}
		return t.refuse(n, r)
	}
	t.take(n, r.Type)
	return nil
}

func (t *table) take(n *nexus, kind Type) {
	t.kind, t.holder = kind, n
	if allRegistrants(kind) {
		t.holder = nil
	}
}

func (t *table) release(n *nexus, r ReserveOut) error {
	if t.kind == 0 || (!allRegistrants(t.kind) && t.holder != n) {
		return nil
	}
	if t.kind != r.Type {
		return &SenseError{Key: 5, ASC: 0x26, ASCQ: 0x04}
	}
	if t.kind >= 5 {
		for _, reg := range t.regs {
			if reg.n != n {
				reg.n.attend(0x2a, 0x04)
			}
		}
	}
	t.holder, t.kind = nil, 0
	return nil
}

// preempt is PREEMPT (SPC-4 5.13.11.4). The sender's own registration stays,
// also where it has the victim's key.
func (t *table) preempt(n *nexus, r ReserveOut) error {
	all := allRegistrants(t.kind) && r.ServiceKey == 0
	if r.ServiceKey == 0 && !all {
		return &SenseError{Key: 5, ASC: 0x26}
	}
	takes := all || (t.holder != nil && t.keyOf(t.holder) == r.ServiceKey)
	found := false
	kept := t.regs[:0:0]
	for _, reg := range t.regs {
		match := all || reg.key == r.ServiceKey
		found = found || match
		if !match || reg.n == n {
			kept = append(kept, reg)
			continue
		}
		reg.n.attend(0x2a, 0x05)
	}
	if !found {
		return t.refuse(n, r)
	}
	t.generation++
	t.regs = kept
	if takes {
		t.take(n, r.Type)
	}
	return nil
}
