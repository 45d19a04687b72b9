package cluster

import (
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

func TestWordsOfPolicies(t *testing.T) {
	for _, word := range []string{"high", "medium", "low", "no-auto-start"} {
		if p, err := ParsePriority(word); err != nil || PriorityOf(p) != word {
			t.Errorf("%s: %v, %v", word, p, err)
		}
	}
	if _, err := ParsePriority("urgent"); err == nil {
		t.Error("urgent is a priority")
	}
	if PriorityOf(99) != "unknown" {
		t.Error(PriorityOf(99))
	}
	for _, word := range []string{"never", "at-once", "22-6", "0-23"} {
		p := &pb.GroupPolicy{}
		if err := ParseFailback(word, p); err != nil || FailbackOf(p) != word {
			t.Errorf("%s: %s, %v", word, FailbackOf(p), err)
		}
	}
	for _, word := range []string{"", "always", "24-6", "6-6", "-1-3", "6", "a-b"} {
		if err := ParseFailback(word, &pb.GroupPolicy{}); err == nil {
			t.Errorf("%q is a failback", word)
		}
	}
}

func TestFailbackIsOpenWithinItsHours(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2026, 11, 2, hour, minute, 0, 0, time.UTC) }
	for _, c := range []struct {
		word string
		at   time.Time
		open bool
	}{
		{"never", at(3, 0), false},
		{"at-once", at(3, 0), true},
		{"22-6", at(21, 59), false},
		{"22-6", at(22, 0), true},
		{"22-6", at(0, 0), true},
		{"22-6", at(5, 59), true},
		{"22-6", at(6, 0), false},
		{"1-3", at(0, 59), false},
		{"1-3", at(1, 0), true},
		{"1-3", at(3, 0), false},
		{"1-3", at(1, 0).In(time.FixedZone("there", -5*3600)), true},
	} {
		p := &pb.GroupPolicy{}
		if err := ParseFailback(c.word, p); err != nil {
			t.Fatal(err)
		}
		if FailbackOpen(p, c.at) != c.open {
			t.Errorf("%s is open at %v: %v", c.word, c.at, !c.open)
		}
	}
}

// TestNotesSayWhatHolds walks a machine through what is told of it.
func TestNotesSayWhatHolds(t *testing.T) {
	p := newPlay(t)
	for _, line := range strings.Split(`cluster s1=8192 s2=8192 s3=8192 at 21:00
vm a 512 s2
vm b 512 s1
policy a failback=22-6 failovers=2/1h
rule ab apart a b
rule pair together a b
fails a@s2
crash a
wait 60s`, "\n") {
		p.line(line)
	}
	s := p.State()
	says := func(name string, now time.Time, want ...string) {
		t.Helper()
		got := strings.Join(Notes(s, s.Groups[name], now), "\n")
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in\n%s", w, got)
			}
		}
	}
	says("a", p.now, "1 times within 1h0m0s, and may 2 times", "goes back to s2 between 22 and 6 o'clock UTC", "rule ab: a, b rather run on different nodes")
	says("a", p.now.Add(time.Hour), "goes back to s2 when one has been up for a minute")
	if got := Broken(s, s.Affinities["pair"]); got != "b on s1, a on s3" {
		t.Error(got)
	}
	if got := Broken(s, s.Affinities["ab"]); got != "" {
		t.Error(got)
	}
	p.line("migrate a s1")
	p.pass(5 * time.Second)
	if got := Broken(s, s.Affinities["ab"]); got != "a, b on s1" {
		t.Error(got)
	}
	if got := Broken(s, s.Affinities["pair"]); got != "" {
		t.Error(got)
	}
	s.Groups["a"].Failovers = append(s.Groups["a"].Failovers, &pb.Failover{AtMs: p.now.UnixMilli(), From: 3})
	says("a", p.now, "as often as it may")
	p.line("policy a possible=s1")
	s.Groups["a"].Policy.Possible = []uint64{3}
	s.Groups["a"].Status.State = pb.GroupState_GROUP_STATE_OFFLINE
	says("a", p.now, "it does not start on s1 now: it is none of its possible owners")
	if got := RulesOf(s, "b"); strings.Join(got, " ") != "ab pair" {
		t.Error(got)
	}
}
