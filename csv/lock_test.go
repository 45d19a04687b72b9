package csv

import (
	"math/rand/v2"
	"testing"
)

// TestLocksTwin compares the table with one that keeps a mark for every byte.
func TestLocksTwin(t *testing.T) {
	const size = 24
	type mark struct {
		owner Owner
		typ   LockType
	}
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 2))
		table := NewLocks()
		var twin [size][]mark
		for step := range 200 {
			start := r.Int64N(size)
			l := Lock{
				Ino: 1, Owner: Owner{NodeID(1 + r.IntN(2)), uint64(r.IntN(2))}, Type: LockType(r.IntN(3)),
				Start: start, End: start + r.Int64N(size-start),
			}
			want := false
			for b := l.Start; b <= l.End; b++ {
				for _, m := range twin[b] {
					want = want || l.Type != Unlock && m.owner != l.Owner && (m.typ == WriteLock || l.Type == WriteLock)
				}
			}
			if _, got := table.Conflict(l); got != want {
				t.Fatalf("seed %d step %d: conflict %v, want %v", seed, step, got, want)
			}
			if want {
				continue
			}
			table.Set(l)
			for b := l.Start; b <= l.End; b++ {
				var keep []mark
				for _, m := range twin[b] {
					if m.owner != l.Owner {
						keep = append(keep, m)
					}
				}
				if l.Type != Unlock {
					keep = append(keep, mark{l.Owner, l.Type})
				}
				twin[b] = keep
			}
		}
		bytes := 0
		for _, l := range table.All() {
			bytes += int(l.End - l.Start + 1)
		}
		marks := 0
		for _, m := range twin {
			marks += len(m)
		}
		if bytes != marks {
			t.Fatalf("seed %d: %d bytes locked, want %d", seed, bytes, marks)
		}
	}
}
