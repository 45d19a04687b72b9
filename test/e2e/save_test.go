package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"quorate/test/stage"
)

// stateFiles is what a machine's folder has of saved states.
const stateFiles = "/ClusterStorage/Volume1/" + stage.Machine + "/saved-*.state"

// shown is what `vm show` tells of a machine.
type shown struct {
	Group struct {
		State, Owner string
		SavedBytes   int64  `json:"saved_bytes"`
		SavedFault   string `json:"saved_fault"`
	}
}

func show(s *stage.Stage) (m shown) {
	s.Check(json.Unmarshal([]byte(s.Must("s1", "vm", "show", stage.Machine, "-o", "json")), &m))
	return m
}

// asleep has the machine saved, and off on both nodes.
func asleep(s *stage.Stage, owner string) {
	m := show(s)
	if m.Group.State != "saved" || m.Group.Owner != owner || m.Group.SavedBytes == 0 {
		s.Fatalf("after the save: %+v", m)
	}
	for _, n := range s.Lab.Nodes() {
		if p := s.Processes(n); p != 0 {
			s.Fatalf("%d processes of it are on %s", p, n)
		}
	}
}

// goesOn has the machine run without having booted, and nothing left of its state.
func goesOn(s *stage.Stage, boots int) {
	s.Counts()
	if now := len(s.Console().Boots); now != boots {
		s.Fatalf("the guest has booted %d times, %d before", now, boots)
	}
	if out, _ := s.Sh("s1", "ls "+stateFiles+" 2>/dev/null"); out != "" {
		s.Fatalf("left: %s", out)
	}
}

// TestSavedMachineGoesOn: a machine that is saved goes on where it was, on either node,
// without a boot and with nothing lost; a state that is torn or missing is named, refused
// and kept.
func TestSavedMachineGoesOn(t *testing.T) {
	s := stage.Raise(t, 2)
	s.Create()
	s.Furnish()
	s.Home("s1")
	s.Counts()
	boots := len(s.Console().Boots)
	s.Tell("%s", strings.TrimSpace(s.Must("s1", "vm", "save", stage.Machine)))
	asleep(s, "s1")

	for what, harm := range map[string]string{
		"torn":    "cp $f /tmp/state && dd if=/dev/urandom of=$f bs=4096 seek=2000 count=1 conv=notrunc",
		"cut off": "cp $f /tmp/state && truncate -s -4096 $f",
		"missing": "cp $f /tmp/state && rm $f",
	} {
		if out, code := s.Sh("s1", "set -e; f=$(echo "+stateFiles+"); "+harm+"; echo $f > /tmp/state.name; sync"); code != 0 {
			t.Fatalf("%s: %s", what, out)
		}
		_, errs, code := s.Ctl("s1", "vm", "start", stage.Machine)
		if code == 0 || !strings.Contains(errs, "discard-state") {
			t.Fatalf("%s: exit status %d: %s", what, code, errs)
		}
		s.Tell("%s: %s", what, strings.TrimSpace(errs))
		s.Eventually("it is off and saved", func() error {
			if m := show(s); m.Group.State != "saved" || m.Group.SavedFault == "" || s.Processes("s1") != 0 {
				return fmt.Errorf("%+v", m)
			}
			return nil
		})
		if out, code := s.Sh("s1", "cp /tmp/state $(cat /tmp/state.name) && sync"); code != 0 {
			t.Fatalf("mend it: %s", out)
		}
	}
	s.Must("s1", "vm", "start", stage.Machine)
	goesOn(s, boots)

	s.Must("s2", "vm", "save", stage.Machine)
	asleep(s, "s1")
	s.Must("s2", "vm", "move", stage.Machine, "--to", "s2")
	asleep(s, "s2")
	s.Must("s1", "vm", "start", stage.Machine)
	goesOn(s, boots)
	if p := s.Processes("s2"); p != 1 {
		t.Fatalf("%d processes of it are on s2", p)
	}

	s.Tell("%s", strings.TrimSpace(s.Must("s2", "quick-migrate", stage.Machine, "--to", "s1")))
	goesOn(s, boots)
	if a, b := s.Processes("s1"), s.Processes("s2"); a != 1 || b != 0 {
		t.Fatalf("%d processes of it are on s1, %d on s2", a, b)
	}
	if list := s.Must("s1", "migration", "list"); !strings.Contains(list, "completed in") {
		t.Fatalf("the move is not listed:\n%s", list)
	}

	s.Tell("%s", strings.TrimSpace(s.Must("s1", "csv", "maintenance", "on", "Volume1", "--save")))
	s.Tell("%s", strings.TrimSpace(s.Must("s1", "csv", "maintenance", "off", "Volume1")))
	goesOn(s, boots)

	s.Must("s1", "vm", "save", stage.Machine)
	if _, errs, code := s.Ctl("s1", "vm", "remove", stage.Machine); code == 0 || !strings.Contains(errs, "--discard-state") {
		t.Fatalf("a saved machine is removed: %d %s", code, errs)
	}
	s.Must("s1", "vm", "discard-state", stage.Machine, "--yes")
	if out, _ := s.Sh("s1", "ls "+stateFiles+" 2>/dev/null"); out != "" {
		t.Fatalf("left: %s", out)
	}
	s.Must("s1", "vm", "start", stage.Machine)
	goesOn(s, boots+1)
	s.Verify()
}
