package scenarios

import (
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/guest"
	"quorate/test/stage"
)

var soakVolumes = flag.Int("soak-volumes", 0, "how many `times` the coordinator of a busy machine's volume is taken away")

// loss is one way to lose the coordinator of a volume.
type loss struct {
	name string
	// takes away node, which coordinates the volume; it is over when the volume is
	// coordinated again. home tells that the machine runs there.
	do   func(s *stage.Stage, node string, home bool)
	undo func(s *stage.Stage, node string)
	// ends: a machine on that node ends by it, or may.
	ends bool
}

// losses are played in turn, the second row after the first.
func losses() [2][]loss {
	coordinatedElsewhere := func(s *stage.Stage, node string) { coordinated(s, s.Other(node)) }
	moved := loss{
		name: "the volume is moved away",
		do: func(s *stage.Stage, node string, _ bool) {
			s.Must(node, "csv", "move", volume, "--to", s.Other(node))
			coordinatedElsewhere(s, node)
		},
	}
	cutOff := func(name string, ends bool, wait func(s *stage.Stage, node string), networks ...string) loss {
		return loss{
			name: name, ends: ends,
			do:   func(s *stage.Stage, node string, _ bool) { s.Cut(node, networks...); wait(s, node) },
			undo: func(s *stage.Stage, node string) { s.Heal(node, networks...) },
		}
	}
	san := cutOff("it is cut off the SAN", true, coordinatedElsewhere, lab.Storage)
	split := cutOff("it is cut off the other node", true, decided, lab.Clients, lab.Migration)
	return [2][]loss{
		{
			{
				name: "its power is cut", ends: true,
				do:   func(s *stage.Stage, node string, _ bool) { s.Kill(node); coordinatedElsewhere(s, node) },
				undo: (*stage.Stage).Start,
			},
			moved,
			{
				name: "all that runs there hangs", ends: true,
				do:   func(s *stage.Stage, node string, _ bool) { s.Hang(node); coordinatedElsewhere(s, node) },
				undo: (*stage.Stage).Wake,
			},
			san, split,
		},
		{
			{name: "its noded is killed", do: nodedKilled},
			moved,
			{
				name: "its noded hangs", ends: true,
				do:   func(s *stage.Stage, node string, _ bool) { s.Freeze(node, "noded"); coordinatedElsewhere(s, node) },
				undo: func(s *stage.Stage, node string) { s.Thaw(node, "noded") },
			},
			san, split,
		},
	}
}

// nodedKilled: where the machine runs there, the next noded comes at once and goes on
// from what the holder kept; elsewhere only when the other node coordinates.
func nodedKilled(s *stage.Stage, node string, home bool) {
	s.Signal(node, "noded", syscall.SIGKILL)
	if !home {
		coordinated(s, s.Other(node))
	}
	s.StartDaemon(node, "noded")
	if home {
		coordinated(s, node)
	}
}

// decided waits until one of two sides has quorum and coordinates the volume.
func decided(s *stage.Stage, _ string) {
	s.Eventually("one side has quorum and coordinates the volume", func() error {
		var ruling []string
		for _, n := range s.Lab.Nodes() {
			st, err := s.StatusOf(n)
			if err != nil {
				return err
			}
			if v := st.Volumes[0]; !st.Stale && v.Coordinator == n && v.State == "online" && st.Node(s.Other(n)) != "up" {
				ruling = append(ruling, n)
			}
		}
		if len(ruling) != 1 {
			return fmt.Errorf("these do: %v", ruling)
		}
		return nil
	})
}

// TestSoakVolumes is the long proof of a volume on the lab: its coordinator is lost,
// time after time, under a machine that writes, and then both nodes write to its files
// at once. What was acknowledged is there after each time, a check finds nothing, and
// the machine starts again only where its own node was lost. `make soak-volumes`.
func TestSoakVolumes(t *testing.T) {
	if *soakVolumes == 0 {
		t.Skip("only where --soak-volumes says how often")
	}
	s := stage.Raise(t, 2)
	s.Create()
	s.Furnish()
	s.Healthy()
	t.Run("coordinator-lost", func(t *testing.T) {
		lose(s.In(t), *soakVolumes)
	})
	for _, sc := range writers() {
		t.Run(sc.name, func(t *testing.T) { sc.play(s.In(t)); s.In(t).Healthy() })
	}
	if !t.Failed() {
		s.Verify()
	}
}

// lose takes the coordinator away so many times, on the machine's node and on the
// other one by turns: for the first row of losses the machine writes where nothing
// was, for the second it writes over what it wrote.
func lose(s *stage.Stage, times int) {
	pulse := s.Pulse()
	rows := losses()
	pauses := map[string][]time.Duration{}
	for i := range times {
		row, space := rows[i/(2*len(rows[0]))%2], "new space"
		if i >= 2*len(rows[0]) {
			overwrites(s)
			space = "overwriting"
		}
		l := row[i%len(row)]
		d, again := l.play(s, pulse, i+1, i%2 == 1)
		how := "it ran on, " + space
		if again {
			how = "it was started again"
		}
		for _, k := range []string{l.name + "; " + how, how, "all"} {
			pauses[k] = append(pauses[k], d)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(pauses)) {
		ds := pauses[k]
		slices.Sort(ds)
		s.Tell("%s: %d times, the machine's writes paused for %d ms (p50) to %d ms", k, len(ds), ds[(len(ds)-1)/2].Milliseconds(), ds[len(ds)-1].Milliseconds())
	}
	s.Tell("%s", s.Must("s1", "csv", "show", volume))
}

// overwrites waits until the machine has written to all of its region.
func overwrites(s *stage.Stage) {
	for s.Console().Last() <= guest.Slots {
		s.Counts()
	}
}

// play is one time; it returns the longest pause of the machine's writes, and whether
// the machine was started again.
func (l loss) play(s *stage.Stage, pulse *stage.Pulse, n int, atHome bool) (pause time.Duration, again bool) {
	host, _, _ := s.MustStatus("s1").Owner()
	node := s.Other(host)
	if atHome {
		node = host
	}
	coordinate(s, node)
	s.Counts()
	boots := len(s.Console().Boots)
	s.Tell("%d: %s coordinates, the machine runs on %s; %s", n, node, host, l.name)
	pulse.Longest()
	l.do(s, node, atHome)
	s.Counts()
	during := pulse.Longest()
	if l.undo != nil {
		l.undo(s, node)
	}
	s.Healthy()
	after := pulse.Longest()
	now, _, _ := s.MustStatus("s1").Owner()
	began := len(s.Console().Boots) - boots
	if began > 1 || began == 1 && (now == host || !l.ends) {
		s.Fatalf("%d: the machine was started %d times; it was on %s and is on %s", n, began, host, now)
	}
	s.Acknowledged()
	found := s.Must(now, "csv", "check", volume)
	s.Tell("%d: the machine's writes paused for %d ms, and %d ms on the way back; it runs on %s, with %d acknowledged writes, none lost; %s",
		n, during.Milliseconds(), after.Milliseconds(), now, s.Console().Last(), strings.TrimSpace(found))
	return max(during, after), began > 0
}
