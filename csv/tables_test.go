package csv

import (
	"slices"
	"testing"
)

// TestWhoComesBackHoldsWhatItSays: a holder that has come back holds what it
// claims and nothing else; what stands against another is asked for again, and owed
// since it was asked for first. Where it holds less it owes nothing.
func TestWhoComesBackHoldsWhatItSays(t *testing.T) {
	l := NewLeases()
	l.Grant(1, 7, Exclusive)
	l.Grant(1, 8, Shared)
	l.Grant(2, 8, Shared)
	if ask, ok := l.Blockers(2, 7, Shared); ok || !slices.Equal(ask, []Recall{{Holder: 1, Ino: 7, Keep: Shared}}) {
		t.Fatalf("%v, %v", ask, ok)
	}
	if ask, ok := l.Blockers(2, 7, Shared); ok || len(ask) != 0 {
		t.Fatalf("asked twice: %v, %v", ask, ok)
	}
	owed := l.Owing()[1]
	if ask := l.Replace(1, []Claim{{Ino: 7, Mode: Exclusive}, {Ino: 9, Mode: None}}); !slices.Equal(ask, []Recall{{Holder: 1, Ino: 7, Keep: Shared}}) {
		t.Errorf("not asked again: %v", ask)
	}
	if got := l.Owing()[1]; owed == 0 || got != owed {
		t.Errorf("it owes %d, and %d before it came back", got, owed)
	}
	if l.Mode(1, 7) != Exclusive || l.Mode(1, 8) != None || l.Mode(1, 9) != None || l.Mode(2, 8) != Shared {
		t.Errorf("%v", l.byIno)
	}
	if ask, ok := l.Blockers(2, 7, Shared); ok || len(ask) != 0 {
		t.Errorf("asked twice when it came back: %v, %v", ask, ok)
	}
	l.Settle(1, 7, Shared, 0) // it has seen what it claims
	if l.Exclude(7); l.Owing()[1] == 0 || l.Replace(1, []Claim{{Ino: 7, Mode: None}}) != nil || len(l.Owing()) != 0 {
		t.Errorf("it holds nothing any more, and owes %v", l.Owing())
	}
	l.Grant(1, 7, Shared)
	if _, ok := l.Blockers(2, 7, Shared); !ok {
		t.Error("what was given up still stands against another")
	}
	if ask, ok := l.Exclude(8); ok || !slices.Equal(ask, []Recall{{Holder: 2, Ino: 8, Keep: None}}) {
		t.Errorf("%v, %v", ask, ok)
	}
	l.Drop(2)
	if _, ok := l.Exclude(8); !ok || l.Mode(2, 8) != None {
		t.Error("who was dropped holds something")
	}
	if ask, ok := l.Blockers(3, 7, None); !ok || ask != nil {
		t.Errorf("nothing is wanted, and %v stands against it", ask)
	}
}

// TestLocksGoWithTheirOwners: an owner's locks of both classes go with it, and a
// node's with the node.
func TestLocksGoWithTheirOwners(t *testing.T) {
	l := NewLocks()
	a, b, c := Owner{1, 1}, Owner{1, 2}, Owner{2, 1}
	for _, o := range []Owner{a, b, c} {
		l.Set(Lock{Ino: 5, Owner: o, Type: ReadLock, End: 9})
	}
	l.Set(Lock{Ino: 5, Class: WholeFile, Owner: a, Type: WriteLock, End: MaxOffset})
	l.Set(Lock{Ino: 6, Owner: a, Type: WriteLock, End: MaxOffset})
	if l.Count() != 5 || !l.Holds(5, a) || l.Holds(6, b) {
		t.Fatalf("%v", l.All())
	}
	if _, conflict := l.Conflict(Lock{Ino: 5, Class: WholeFile, Owner: b, Type: ReadLock}); !conflict {
		t.Error("a lock of the whole file keeps nobody out")
	}
	l.Release(5, a)
	if l.Holds(5, a) || !l.Holds(6, a) || l.Count() != 3 {
		t.Errorf("after the release: %v", l.All())
	}
	l.Drop(1)
	if got := l.All(); len(got) != 1 || got[0].Owner != c {
		t.Errorf("after the node has gone: %v", got)
	}
}

func TestNamesOfAccess(t *testing.T) {
	for a, want := range map[Access]string{Detached: "detached", Direct: "direct", Redirected: "redirected", Paused: "paused", Fenced: "fenced", 99: "access(99)"} {
		if got := a.String(); got != want {
			t.Errorf("%d is called %q, want %q", a, got, want)
		}
	}
	if old := (Ownership{1, 4}); !(Ownership{2, 5}).Supersedes(old) || old.Supersedes(old) {
		t.Error("a later epoch, and no other, supersedes")
	}
}
