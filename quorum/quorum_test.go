package quorum

import (
	"testing"
	"testing/quick"
	"time"
)

func TestMajorities(t *testing.T) {
	for _, c := range []struct{ total, needed int }{{1, 1}, {2, 2}, {3, 2}, {4, 3}, {5, 3}, {9, 5}} {
		if got := Needed(c.total); got != c.needed {
			t.Errorf("Needed(%d) = %d, want %d", c.total, got, c.needed)
		}
	}
	// Two majorities always share a voter.
	if err := quick.Check(func(n uint8) bool { return 2*Needed(int(n)) > int(n) }, nil); err != nil {
		t.Error(err)
	}
}

func TestChoose(t *testing.T) {
	const mb = 1000 * 1000
	luns := []Candidate{
		{ID: "v", Name: "V", Size: 1 << 40, SeenBy: 2},
		{ID: "q", Name: "Q", Size: 500 * mb, SeenBy: 2},
		{ID: "tiny", Name: "T", Size: mb, SeenBy: 2},
		{ID: "half", Name: "H", Size: 200 * mb, SeenBy: 1},
		{ID: "bad", Name: "B", Size: 150 * mb, SeenBy: 2, Unsuitable: "holds an ext4 file system"},
	}
	if got := Choose(2, luns); got.Mode != NodeAndDiskMajority || got.Witness != "q" {
		t.Errorf("two nodes: %+v", got)
	}
	if got := Choose(3, luns); got.Mode != NodeMajority || got.Witness != "" {
		t.Errorf("three nodes: %+v", got)
	}
	if got := Choose(2, luns[2:]); got.Mode != NodeMajority || got.Why == "" {
		t.Errorf("nothing suitable: %+v", got)
	}
}

var timing = Timing{Window: 1200 * time.Millisecond, MaxGap: 600 * time.Millisecond}

// watch reads a block every 200 ms for a while.
func watch(a *Arbiter, from time.Time, n int, beat func(i int) Beat) time.Time {
	for i := range n {
		a.Saw(from, beat(i))
		from = from.Add(200 * time.Millisecond)
	}
	return from
}

func TestWitnessIsTakenOnlyAfterItsWindow(t *testing.T) {
	t0 := time.Unix(1000, 0)
	still := func(int) Beat { return Beat{Generation: 3, Host: 2, Counter: 9} }
	moving := func(i int) Beat { return Beat{Generation: 3, Host: 2, Counter: uint64(i)} }
	alone := Situation{Self: 1, Wanted: true}
	for name, c := range map[string]struct {
		beat func(int) Beat
		n    int
		s    Situation
		want Decision
	}{
		"moving block":         {moving, 50, alone, Decision{}},
		"still, too short":     {still, 6, alone, Decision{}},
		"still":                {still, 7, alone, Decision{Take: true, Challenged: true, Since: t0}},
		"another leads":        {still, 7, Situation{Self: 1, Leader: 3, Wanted: true}, Decision{}},
		"the leader let it be": {still, 13, Situation{Self: 1, Leader: 3, Wanted: true}, Decision{Take: true, Challenged: true, Since: t0}},
		"not wanted":           {still, 50, Situation{Self: 1}, Decision{}},
		"own, after a restart": {still, 1, Situation{Self: 2, Wanted: true}, Decision{Take: true}},
		"released to leader":   {func(int) Beat { return Beat{Generation: 3, Host: 2, Released: true} }, 1, Situation{Self: 1, Leader: 1, Wanted: true}, Decision{Take: true}},
		"never hosted":         {func(int) Beat { return Beat{} }, 1, alone, Decision{Take: true}},
	} {
		a := NewArbiter(timing)
		watch(a, t0, c.n, c.beat)
		got := a.Decide(c.s)
		got.Why = ""
		if got != c.want {
			t.Errorf("%s: got %+v, want %+v", name, got, c.want)
		}
	}
}

func TestUnreadBlockProvesNothing(t *testing.T) {
	t0 := time.Unix(1000, 0)
	still := func(int) Beat { return Beat{Generation: 3, Host: 2, Counter: 9} }
	a := NewArbiter(timing)
	end := watch(a, t0, 6, still)
	a.Lost()
	watch(a, end, 2, still)
	if a.Decide(Situation{Self: 1, Wanted: true}).Take {
		t.Error("taken across a failed read")
	}
	a = NewArbiter(timing)
	end = watch(a, t0, 6, still)
	watch(a, end.Add(time.Second), 2, still)
	if a.Decide(Situation{Self: 1, Wanted: true}).Take {
		t.Error("taken across a gap: the reader itself may have hung")
	}
}
