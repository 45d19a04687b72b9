package migration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// copyOf drives a copy that changes memory as fast as it is carried, a round each
// second, and returns what was done, with the round.
func copyOf(o SourceOptions, rounds int64) string {
	s := NewSource(o)
	at := time.Unix(0, 0)
	s.Step(at, SourceStatus{Run: Running})
	s.Step(at, Begin{})
	s.Step(at, TargetReady{Carriage{Streams: 2}})
	var said []string
	for round := range rounds {
		at = at.Add(time.Second)
		st := SourceStatus{Run: Running, Transfer: TransferActive, Sample: Sample{Transferred: round << 20, Remaining: 1 << 30, Total: 1 << 30, Rounds: round, Dirty: 1 << 30}}
		for _, e := range s.Step(at, st) {
			switch e := e.(type) {
			case SetPauseLimit:
				said = append(said, fmt.Sprintf("%d:pause=%v", round, e.PauseLimit))
			case SetBandwidth:
				said = append(said, fmt.Sprintf("%d:rate=%d", round, e.Rate))
			case SetThrottle:
				said = append(said, fmt.Sprintf("%d:throttle=%d", round, e.Percent))
			case Note:
				if strings.Contains(e.Text, "wait") {
					said = append(said, fmt.Sprintf("%d:wait", round))
				}
			}
		}
	}
	return strings.Join(said, " ")
}

// TestRemediesInTheirOrder: what is done when a copy does not settle is what the
// administrator wants, in that order, and ends where nothing is left.
func TestRemediesInTheirOrder(t *testing.T) {
	for _, c := range []struct {
		name   string
		o      SourceOptions
		rounds int64
		want   string
	}{
		{
			"as it comes",
			SourceOptions{PauseLimit: 200 * time.Millisecond},
			200,
			"10:pause=400ms 20:pause=500ms 30:throttle=20 40:throttle=40 50:throttle=60 60:throttle=80 70:throttle=95",
		},
		{
			"a bandwidth that may be lifted",
			SourceOptions{PauseLimit: 500 * time.Millisecond, Bandwidth: 1 << 20, MaxBandwidth: 3 << 20, Remedies: []Remedy{RemedyWait, RemedyBandwidth, RemedyPause}},
			90,
			"10:wait 20:rate=3145728",
		},
		{"no limit was set", SourceOptions{PauseLimit: 500 * time.Millisecond, Remedies: []Remedy{RemedyBandwidth}}, 90, ""},
		{"the limit goes", SourceOptions{PauseLimit: 500 * time.Millisecond, Bandwidth: 1, Remedies: []Remedy{RemedyBandwidth}}, 90, "10:rate=0"},
		{"nothing is wanted", SourceOptions{Remedies: []Remedy{}}, 90, ""},
		{"long rounds", SourceOptions{PauseLimit: 250 * time.Millisecond, RaiseAfter: 3 * time.Second, Remedies: []Remedy{RemedyPause}}, 90, "3:pause=500ms"},
	} {
		if got := copyOf(c.o, c.rounds); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestBandwidthIsShared: what a copy may use changes while it runs, and not any more
// once it was lifted for a copy that does not settle.
func TestBandwidthIsShared(t *testing.T) {
	s := NewSource(SourceOptions{Bandwidth: 100, Remedies: []Remedy{RemedyBandwidth}})
	running := SourceStatus{Run: Running}
	if got := drive(s, running, Begin{}, LimitBandwidth{50}); got != "PrepareTarget" {
		t.Error(got)
	}
	var start StartTransfer
	for _, e := range s.Step(time.Unix(1, 0), TargetReady{Carriage{Streams: 3}}) {
		start, _ = e.(StartTransfer)
	}
	if start.Bandwidth != 50 || start.Carriage.Streams != 3 || start.Throttle {
		t.Errorf("%+v", start)
	}
	if got := drive(s, LimitBandwidth{50}, LimitBandwidth{100}); got != "SetBandwidth" {
		t.Error(got)
	}
	busy := func(round int64) SourceStatus {
		return SourceStatus{Run: Running, Transfer: TransferActive, Sample: Sample{Remaining: 1 << 30, Total: 1 << 30, Rounds: round}}
	}
	if got := drive(s, busy(0), busy(10), LimitBandwidth{50}); got != "SetBandwidth Note" {
		t.Error(got)
	}
}

func TestChoose(t *testing.T) {
	const mib = 1 << 20
	gigabit := Measured{Link: 115 * mib, IdleHere: 1.9, IdleThere: 1.5}
	fast := Measured{Link: 3000 * mib, IdleHere: 6, IdleThere: 7}
	for _, c := range []struct {
		name    string
		streams int
		want    Compression
		memory  int64
		m       Measured
		expect  Carriage
	}{
		{"nothing is known", 0, CompressAuto, 8192, Measured{}, Carriage{2, false}},
		{"a gigabit", 0, CompressAuto, 8192, gigabit, Carriage{1, true}},
		{"half of it", 0, CompressAuto, 8192, Measured{Link: 60 * mib, IdleHere: 1.9, IdleThere: 1.5}, Carriage{1, true}},
		{"it is limited to half", 0, CompressAuto, 8192, Measured{Link: 3000 * mib, IdleHere: 1.9, IdleThere: 1.5, Limit: 60 * mib}, Carriage{1, true}},
		{"two streams compress a gigabit", 2, CompressAuto, 8192, Measured{Link: 115 * mib, IdleHere: 4, IdleThere: 4}, Carriage{2, true}},
		{"no time for it", 0, CompressAuto, 8192, Measured{Link: 60 * mib, IdleHere: 0.4, IdleThere: 4}, Carriage{0, false}},
		{"a fast link", 0, CompressAuto, 8192, fast, Carriage{4, false}},
		{"ten gigabits and two processors", 0, CompressAuto, 8192, Measured{Link: 900 * mib, IdleHere: 2, IdleThere: 2}, Carriage{2, false}},
		{"little memory", 0, CompressAuto, 512, fast, Carriage{0, false}},
		{"asked for", 3, CompressOn, 512, fast, Carriage{3, true}},
		{"compressed in one", 0, CompressOn, 512, Measured{}, Carriage{1, true}},
		{"forbidden", 0, CompressOff, 8192, Measured{Link: 6 * mib, IdleHere: 2, IdleThere: 2}, Carriage{0, false}},
	} {
		got, why := Choose(c.streams, c.want, c.memory, c.m)
		if got != c.expect || got.Validate() != nil {
			t.Errorf("%s: %+v (%s), want %+v", c.name, got, why, c.expect)
		}
		if c.want == CompressAuto && !strings.Contains(why, "compressed") {
			t.Errorf("%s: %q does not say why", c.name, why)
		}
	}
}

func TestWordsOfACopy(t *testing.T) {
	if _, err := ParseRemedies("pause, shoot"); err == nil || !strings.Contains(err.Error(), "shoot") {
		t.Error(err)
	}
	if r, err := ParseRemedies(" wait,throttle"); err != nil || fmt.Sprint(r) != "[wait throttle]" {
		t.Error(r, err)
	}
	if r, err := ParseRemedies(""); err != nil || len(r) != len(DefaultRemedies()) {
		t.Error(r, err)
	}
	if _, err := ParseCompression("maybe"); err == nil {
		t.Error("maybe was taken")
	}
	if c, err := ParseCompression(""); c != CompressAuto || err != nil {
		t.Error(c, err)
	}
	for _, c := range []Carriage{{-1, false}, {17, false}, {0, true}} {
		if c.Validate() == nil {
			t.Errorf("%v was taken", c)
		}
	}
}
