package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/stage"
)

// exec runs a command on any machine of the lab.
func exec(s *stage.Stage, host string, argv ...string) (out, errs string, code int) {
	var o, e bytes.Buffer
	code, err := s.Lab.Exec(context.Background(), host, argv, box.Stdio{Out: &o, Err: &e})
	s.Check(err)
	return o.String(), e.String(), code
}

// clusterAt is what an administrator learns from his own machine.
func clusterAt(s *stage.Stage) (owner string, err error) {
	out, errs, code := exec(s, lab.Admin, "clusterctl", "--cluster", stage.Cluster, "--timeout", "5s", "cluster", "show", "-o", "json")
	if code != 0 {
		return "", errors.New(errs)
	}
	var c struct{ Owner, State, Detail string }
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		return "", err
	}
	if c.State != "online" {
		return "", fmt.Errorf("it is %s: %s", c.State, c.Detail)
	}
	return c.Owner, nil
}

// holders are the nodes that have an address on an interface.
func holders(s *stage.Stage, ip string) (out []string) {
	for _, n := range s.Lab.Nodes() {
		if text, _, _ := exec(s, n, "ip", "-o", "addr", "show"); strings.Contains(text, " "+ip+"/") {
			out = append(out, n)
		}
	}
	return out
}

// equip gives the administrator's machine his file.
func equip(s *stage.Stage) {
	text := s.Must("s1", "config", "export", "--user", "anna")
	s.Check(os.WriteFile(filepath.Join(s.Lab.AdminConfig(), stage.Cluster+".yaml"), []byte(text), 0o600))
}

// TestClusterAnswersAtItsAddress, from an administrator's machine, whoever dies.
func TestClusterAnswersAtItsAddress(t *testing.T) {
	s := stage.Raise(t, 2)
	s.Create()
	equip(s)
	owner := ""
	atHome := func(what, not string) {
		t.Helper()
		s.Eventually("the cluster answers: "+what, func() (err error) {
			if owner, err = clusterAt(s); err != nil {
				return err
			}
			if owner == not {
				return fmt.Errorf("%s still answers", not)
			}
			return nil
		})
		s.Tell("%s: %s answers at %s", what, owner, stage.Address)
	}
	atHome("from the beginning", "")
	first := owner
	s.Kill(first)
	atHome("its owner has no power", first)
	s.Start(first)
	s.Eventually("all is well", func() error {
		st, err := s.StatusOf(first)
		if err == nil {
			err = st.Well()
		}
		return err
	})
	// A node that hangs has a kernel that still answers for the address.
	second := owner
	s.Hang(second)
	atHome("its owner hangs", second)
	s.Wake(second)
	s.Eventually("one node has the address", func() error {
		if got := holders(s, stage.Address); len(got) != 1 || got[0] != owner {
			return fmt.Errorf("%v have it", got)
		}
		return nil
	})
	atHome("its owner woke", second)
	// noded that restarts, and clusterd that does, cost the address a moment at most.
	s.Signal(owner, "noded", 9)
	s.StartDaemon(owner, "noded")
	atHome("noded of its owner restarted", "")
	if _, errs, code := exec(s, lab.Admin, "clusterctl", "--cluster", "elsewhere", "status"); code != 3 || !strings.Contains(errs, "config export") {
		t.Fatalf("%d: %s", code, errs)
	}
}

// TestAddressThatIsUsedIsRefused: at create, when it is set, and when it comes up;
// the other's MAC is named, and the address is taken once it is free.
func TestAddressThatIsUsedIsRefused(t *testing.T) {
	s := stage.Raise(t, 2)
	mac, _, _ := exec(s, lab.Admin, "cat", "/sys/class/net/eth0/address")
	mac = strings.TrimSpace(mac)
	take := func(verb, ip string) {
		t.Helper()
		if _, errs, code := exec(s, lab.Admin, "ip", "addr", verb, ip+"/24", "dev", "eth0"); code != 0 {
			t.Fatal(errs)
		}
	}
	refused := func(args ...string) {
		t.Helper()
		if _, errs, code := s.Ctl("s1", args...); code != 4 || !strings.Contains(errs, mac) {
			t.Fatalf("%v: %d, %s; want %s to be named", args, code, errs, mac)
		}
	}
	take("add", stage.Address)
	refused("create", "--name", "c1", "--ip", stage.Address, "--node", "s1", "--node", "s2")
	take("del", stage.Address)
	s.Create()
	const other = "192.168.100.201"
	take("add", other)
	refused("cluster", "set", "--ip", other)
	take("del", other)
	s.Must("s1", "cluster", "set", "--ip", other)
	equip(s)
	if got := holders(s, stage.Address); len(got) != 0 {
		t.Fatalf("%v still have the old address", got)
	}
	owner, err := clusterAt(s)
	s.Check(err)
	// Somebody takes it while its owner is off: the next owner says so, and waits.
	s.Kill(owner)
	take("add", other)
	left := s.Other(owner)
	s.Eventually("the address is refused", func() error {
		var c struct{ State, Detail string }
		if err := json.Unmarshal([]byte(s.Must(left, "cluster", "show", "-o", "json")), &c); err != nil {
			return err
		}
		if c.State != "failed" || !strings.Contains(c.Detail, mac) {
			return fmt.Errorf("it is %s: %s", c.State, c.Detail)
		}
		return nil
	})
	take("del", other)
	s.Eventually("the address is taken when it is free", func() error {
		now, err := clusterAt(s)
		if err == nil && now != left {
			err = fmt.Errorf("%s answers", now)
		}
		return err
	})
}

// TestAddressLeavesANodeWhoseCableIsCut: of three nodes, it is known which one the
// clients' network has lost; it has its machines still, and the address goes.
func TestAddressLeavesANodeWhoseCableIsCut(t *testing.T) {
	s := stage.Raise(t, 3)
	s.Create()
	equip(s)
	var first string
	s.Eventually("the cluster answers", func() (err error) {
		first, err = clusterAt(s)
		return err
	})
	s.Cut(first, lab.Clients)
	s.Eventually("another node answers", func() error {
		owner, err := clusterAt(s)
		if err == nil && owner == first {
			err = fmt.Errorf("%s does", owner)
		}
		return err
	})
	if got := holders(s, stage.Address); len(got) != 1 || got[0] == first {
		t.Fatalf("%v have it", got)
	}
	s.Heal(first, lab.Clients)
	if list := events(s, first, "node-down"); len(list) > 0 {
		t.Fatalf("it cost: %v", list)
	}
}
