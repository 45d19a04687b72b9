package main

import (
	"strings"
	"testing"
	"time"

	"quorate/test/lab/guest"
)

const story = `{"at_ms":900,"kind":"group-state","subject":"vWS08-SQL01","text":"vWS08-SQL01 is online on s1"}
{"at_ms":2200,"kind":"witness-hosted","subject":"s1","text":"s1 hosts the witness"}
{"at_ms":2500,"kind":"node-down","subject":"s2","text":"node s2 is down: silent"}
{"at_ms":3900,"kind":"node-fenced","subject":"s2","text":"node s2 can neither write nor run machines"}
{"at_ms":3910,"kind":"group-moved","subject":"vWS08-SQL01","text":"vWS08-SQL01 is owned by s1 now"}
{"at_ms":3920,"kind":"group-state","subject":"vWS08-SQL01","text":"vWS08-SQL01 is starting on s1"}
{"at_ms":4400,"kind":"group-state","subject":"vWS08-SQL01","text":"vWS08-SQL01 is online on s1"}
`

func TestBreakDown(t *testing.T) {
	ms := time.Millisecond
	got, err := breakDown(time.UnixMilli(1000), []byte(story))
	want := failover{detect: 1500 * ms, arbitrate: 1200 * ms, fence: 1400 * ms, place: 10 * ms, start: 490 * ms}
	if err != nil || got != want || got.total() != 3400*ms {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

func TestBreakDownNamesWhatIsMissing(t *testing.T) {
	cutOff := story[:strings.Index(story, `{"at_ms":3900`)]
	if _, err := breakDown(time.UnixMilli(1000), []byte(cutOff)); err == nil || !strings.Contains(err.Error(), "node-fenced of s2") {
		t.Errorf("got %v", err)
	}
	if _, err := breakDown(time.UnixMilli(1000), []byte("nonsense")); err == nil {
		t.Error("nonsense was taken for events")
	}
}

func TestSameMachine(t *testing.T) {
	console := func(boot string, starts int, seqs ...uint64) guest.Console {
		c := guest.Console{Boots: make([]guest.Boot, starts)}
		for _, s := range seqs {
			c.Ticks = append(c.Ticks, guest.Tick{Boot: boot, Seq: s})
		}
		return c
	}
	here := console("a", 1, 1, 2, 3)
	if err := sameMachine(here, console("a", 0, 4, 5)); err != nil {
		t.Error(err)
	}
	for name, there := range map[string]guest.Console{
		"silent": {}, "started anew": console("b", 1, 4), "behind": console("a", 0, 3), "far ahead": console("a", 0, 9),
	} {
		if sameMachine(here, there) == nil {
			t.Errorf("a machine that is %s was taken for the same", name)
		}
	}
}
