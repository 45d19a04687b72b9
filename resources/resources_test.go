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
