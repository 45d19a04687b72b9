package resources

import (
	"strings"
	"testing"
)

func TestPlace(t *testing.T) {
	n := Need{Group: "sql", Volume: "Volume1", MemoryMiB: 1000}
	v := []string{"Volume1"}
	all := []Candidate{
		{ID: 1, Name: "s1", Up: false, Volumes: v, MemoryMiB: 64000},
		{ID: 2, Name: "s2", Up: true, Volumes: nil, MemoryMiB: 64000},
		{ID: 3, Name: "s3", Up: true, Volumes: v, MemoryMiB: 4000, CommittedMiB: 3500},
		{ID: 4, Name: "s4", Up: true, Volumes: v, MemoryMiB: 4000, CommittedMiB: 1000, Groups: 1},
		{ID: 5, Name: "s5", Up: true, Volumes: v, MemoryMiB: 4000, CommittedMiB: 1000},
		{ID: 6, Name: "s6", Up: true, Volumes: v, MemoryMiB: 64000, Unfit: "it failed there"},
	}
	p := Place(n, all)
	if p.Node != 5 || len(p.Rejected) != 5 {
		t.Fatalf("%+v", p)
	}
	for _, want := range []string{"s1: it is down", "s2: it does not reach Volume1", "s3: 500 MiB are free, 1000 are needed", "s6: it failed there"} {
		if !strings.Contains(p.Explain(), want) {
			t.Errorf("%q lacks %q", p.Explain(), want)
		}
	}
	if p := Place(n, all[:3]); p.Node != 0 || !strings.HasPrefix(p.Explain(), "no node can take it") {
		t.Fatalf("%+v", p)
	}
}

// TestPlaceByPolicy: what a group's policy says counts before the room, in its order.
func TestPlaceByPolicy(t *testing.T) {
	node := func(id uint64, name string, free uint64) Candidate {
		return Candidate{ID: id, Name: name, Up: true, MemoryMiB: free}
	}
	big, failed, apart, second, first, with := node(1, "big", 9000), node(2, "failed", 100), node(3, "apart", 100), node(4, "second", 100), node(5, "first", 100), node(6, "with", 100)
	failed.Failed, failed.Rank = true, 1
	apart.Apart, apart.Rank = []string{"a", "b"}, 1
	second.Rank, first.Rank = 2, 1
	with.Together = []string{"db"}
	for _, c := range []struct {
		of        []Candidate
		want, why string
		not       string
	}{
		{[]Candidate{failed, apart}, "apart", "it has not failed there lately", "failed: it has failed there lately"},
		{[]Candidate{failed, apart, big}, "big", "there it is kept apart from a", "apart: it has a, b, from which it is kept apart"},
		{[]Candidate{big, second, first}, "first", "it is preferred there", "second: another is preferred"},
		{[]Candidate{big, with}, "with", "there it is together with db", "big: it would not be together with db"},
		{[]Candidate{with, first}, "first", "it is preferred there", "with: another is preferred"},
		{[]Candidate{node(7, "x", 100), node(8, "y", 100)}, "x", "it is the first of those that are equal", "y: another that is equal comes first"},
		{[]Candidate{big}, "big", "no other node can take it", ""},
	} {
		p := Place(Need{Group: "g", MemoryMiB: 10}, c.of)
		if p.Name != c.want || p.Why != c.why || !strings.Contains(p.Explain(), c.not) {
			t.Errorf("%q and not %q: %s", p.Name, c.want, p.Explain())
		}
	}
}
