package validate

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"quorate/cluster/api/apipb"
	"quorate/disk"
)

// TestNothingWrong passes every check, and leaves no key behind.
func TestNothingWrong(t *testing.T) {
	a, b := pair()
	rep := validated(t, Options{}, a, b)
	for _, c := range rep.Checks {
		if c.Result != Passed {
			t.Errorf("%v", c)
		}
	}
	if rep.Errors+rep.Warnings != 0 || len(rep.Checks) < 20 {
		t.Errorf("%d checks, %d warnings, %d errors", len(rep.Checks), rep.Warnings, rep.Errors)
	}
	for url, m := range a.luns {
		have, err := m.Nexus("witness").Reservations(t.Context())
		if err != nil || len(have.Keys) != 0 || have.Type != 0 {
			t.Errorf("%s is left with %+v, %v", url, have, err)
		}
	}
}

// TestFindings has one thing wrong at a time, and looks for the check that says
// so, what it says, and that no other check fails.
func TestFindings(t *testing.T) {
	const q, v = "iscsi://san/q/1", "iscsi://san/v/1"
	answer := func(step string, do func(*apipb.ProbeLunRequest, *apipb.ProbeLunResponse)) func(*apipb.ProbeLunRequest, *apipb.ProbeLunResponse) {
		return func(r *apipb.ProbeLunRequest, res *apipb.ProbeLunResponse) {
			if r.Step == step {
				do(r, res)
			}
		}
	}
	for _, tc := range []struct {
		name   string
		wrong  func(a, b *fake)
		check  string
		result string
		text   string
		also   []string // checks that follow from it
	}{
		{
			"node down", func(_, b *fake) { b.down = errors.New("connection refused") }, "Node answers", Failed, "s2 does not answer: connection refused",
			[]string{"Clocks", "Redundancy", "Reservations"},
		},
		{"clock a bit off", func(_, b *fake) { b.ahead = 3 * time.Second }, "Clocks", Warning, "s2 is 3s ahead of that of s1", nil},
		{"clock far off", func(a, _ *fake) { a.ahead = -time.Minute }, "Clocks", Failed, "s2 is 1m0s ahead of that of s1", nil},
		{"versions", func(_, b *fake) { b.desc.Version = "2" }, "Versions", Warning, "s1: 1; s2: 2", nil},
		{"QEMU", func(_, b *fake) { b.desc.QemuVersion = "8" }, "QEMU versions", Warning, "s2: 8", nil},
		{"vendor", func(_, b *fake) { b.desc.CpuVendor = "AuthenticAMD" }, "Processor vendor", Failed, "s2: AuthenticAMD", []string{"Processor model"}},
		{"family", func(_, b *fake) { b.desc.CpuFamily = "15" }, "Processor family and model", Warning, "s2: 15, Xeon", nil},
		{"emulated", func(_, b *fake) { b.desc.Accelerator, b.desc.AcceleratorNote = "tcg", "no /dev/kvm" }, "Virtualisation", Warning, "no /dev/kvm", []string{"Processor model"}},
		{"no QEMU", func(_, b *fake) { b.desc.Accelerator, b.desc.AcceleratorNote = "none", "not installed" }, "Virtualisation", Failed, "not installed", []string{"Processor model"}},
		{"a model that one lacks", func(a, b *fake) {
			a.desc.ClusterCpuModel = "Haswell-noTSX"
			b.desc.CpuModels = []*apipb.CpuModel{{Name: "x86-64-v2"}, {Name: "Haswell-noTSX", Missing: []string{"avx2"}}}
		}, "Processor model", Warning, "Haswell-noTSX: s2 lacks avx2 of it", nil},
		{"no model in common", func(a, b *fake) {
			a.desc.CpuModels, b.desc.CpuModels = a.desc.CpuModels[:1], b.desc.CpuModels[1:]
		}, "Processor model", Warning, "lack something of every model", nil},
		{"an older version", func(_, b *fake) { b.desc.CpuModels = nil }, "Processor model", Warning, "of s2 it is not known", nil},
		{"no bridge for a machine", func(a, b *fake) {
			a.desc.VirtualNetworks, b.desc.VirtualNetworks = external("s2=br7"), external("s2=br7")
		}, "Virtual network", Failed, "s2 has no bridge br7", nil},
		{"no bridge of a new node's, and no machine", func(a, _ *fake) {
			a.desc.VirtualNetworks = external()
			a.desc.VirtualNetworks[0].Machines = nil
		}, "Virtual network", Warning, "s2 has no bridge br0", nil},
		{"a bridge that is down", func(a, b *fake) {
			a.desc.VirtualNetworks, b.desc.Bridges.Bridges[0].Up = external("s2=br1"), false
		}, "Virtual network", Warning, "the bridge br1 of s2 is down", nil},
		{"bridges not known", func(a, b *fake) {
			a.desc.VirtualNetworks, b.desc.Bridges = external("s2=br1"), nil
		}, "Virtual network", Warning, "s2 does not say which bridges it has", nil},
		{
			"one name twice", func(_, b *fake) { b.desc.Name = "s1" }, "Names", Failed, "two nodes are named s1",
			[]string{"Reservations", "Addresses", "Witness", "Volume"},
		},
		{"another cluster's", func(a, b *fake) {
			a.desc.Joined, a.desc.ClusterId, a.desc.ClusterName = true, "1", "c1"
			b.desc.Joined, b.desc.ClusterId, b.desc.ClusterName = true, "2", "c2"
		}, "Membership", Failed, "s2 is a node of cluster c2", []string{"Witness", "Volume"}},
		{"cut", func(a, _ *fake) { a.cut["192.168.101.11"] = true }, "Reachability", Failed, "s1 does not reach s2 at 192.168.101.11:7400: i/o timeout", nil},
		{"one network", func(a, b *fake) { a.desc.Addresses, b.desc.Addresses = a.desc.Addresses[:1], b.desc.Addresses[:1] }, "Redundancy", Warning, "only 192.168.0.0/24", nil},
		{
			"a network missing", func(_, b *fake) { b.desc.Addresses = b.desc.Addresses[:1] }, "Same networks", Warning, "s2 has no address on 192.168.101.0/24",
			[]string{"Redundancy"},
		},
		{"one address twice", func(a, b *fake) { b.desc.Addresses[0].Host = a.desc.Addresses[0].Host }, "Addresses", Failed, "both have the address 192.168.0.10", nil},
		{"LUN not seen", func(_, b *fake) { delete(b.luns, q) }, "Same LUNs", Failed, "s2 does not see it", []string{"Reservations", "Volume", "Witness"}},
		{"no LUN", func(a, b *fake) { a.luns, b.luns = nil, nil }, "Shared storage", Warning, "no node sees a LUN", nil},
		{"data", func(a, _ *fake) { a.holds[v] = "an XFS file system" }, "Reservations", Skipped, "it bears an XFS file system", []string{"Volume"}},
		{"in use", func(a, _ *fake) {
			_ = a.luns[q].Nexus("other").Reserve(t.Context(), disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 77})
		}, "Reservations", Skipped, "key 0x000000000000004d is registered", []string{"Volume", "Witness"}},
		{"slow", func(_, b *fake) { b.slow = 30_000 }, "Latency", Warning, "s2 reads a block in 30ms (p50), 30ms (p99)", nil},
		{"no APTPL", func(a, _ *fake) {
			a.answer = answer("capabilities", func(_ *apipb.ProbeLunRequest, r *apipb.ProbeLunResponse) { r.Persist = false })
		}, "Abilities", Warning, "no APTPL", nil},
		{"no reservations", func(a, _ *fake) {
			a.answer = answer("capabilities", func(_ *apipb.ProbeLunRequest, r *apipb.ProbeLunResponse) { r.Reservations = false })
		}, "Abilities", Failed, "no persistent reservations", []string{"Reservations", "Volume", "Witness"}},
		{"loose", func(a, _ *fake) {
			a.answer = answer("reserve", func(_ *apipb.ProbeLunRequest, r *apipb.ProbeLunResponse) { r.Conflict = false })
		}, "Strictness", Warning, "wrong key", nil},
		{"writes get through", func(_, b *fake) {
			b.answer = answer("write", func(_ *apipb.ProbeLunRequest, r *apipb.ProbeLunResponse) { r.Conflict = false })
		}, "Reservations", Failed, "a node that is not registered can write", []string{"Volume", "Witness"}},
		{"probe fails", func(_, b *fake) {
			b.answer = answer("write", func(_ *apipb.ProbeLunRequest, r *apipb.ProbeLunResponse) { r.Error = "path lost" })
		}, "Reservations", Failed, "s2, write: path lost", []string{"Volume", "Witness"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a, b := pair()
			tc.wrong(a, b)
			rep := validated(t, Options{}, a, b)
			found := false
			for _, c := range rep.Checks {
				hit := c.Name == tc.check && c.Result == tc.result && strings.Contains(c.Text, tc.text)
				found = found || hit
				if c.Result != Passed && c.Name != tc.check && !slices.Contains(tc.also, c.Name) {
					t.Errorf("not expected: %v", c)
				}
				if (c.Result == Failed || c.Result == Warning) && c.Advice == "" {
					t.Errorf("no advice: %v", c)
				}
			}
			if !found {
				t.Errorf("no check %q %s %q in %v", tc.check, tc.result, tc.text, rep.Checks)
			}
			for url, m := range a.luns {
				have, _ := m.Nexus("look").Reservations(t.Context())
				if slices.ContainsFunc(have.Keys, func(k disk.Key) bool { return k != 77 }) {
					t.Errorf("%s is left with %v", url, have)
				}
			}
		})
	}
}

// TestReservationsOfOneLUN: a LUN that lies is refused for what it did, another is
// not looked at.
func TestReservationsOfOneLUN(t *testing.T) {
	a, b := pair()
	members := []Member{{"s1", a}, {"s2", b}}
	if err := Reservations(t.Context(), members, "t", "naa.1"); err != nil {
		t.Fatal(err)
	}
	if err := Reservations(t.Context(), members, "t", "naa.9"); err == nil || !strings.Contains(err.Error(), "no node sees it") {
		t.Fatalf("got %v", err)
	}
	b.answer = func(r *apipb.ProbeLunRequest, res *apipb.ProbeLunResponse) {
		if r.Step == "write" {
			res.Conflict = false
		}
	}
	if err := Reservations(t.Context(), members, "t", "naa.1"); err == nil || !strings.Contains(err.Error(), "a node that is not registered can write") {
		t.Fatalf("got %v", err)
	}
	b.answer = nil
	a.holds["iscsi://san/q/1"] = "an XFS file system"
	if err := Reservations(t.Context(), members, "t", "naa.1"); err == nil || !strings.Contains(err.Error(), "XFS") {
		t.Fatalf("got %v", err)
	}
}

// TestInUse touches nothing on LUNs that are in use.
func TestInUse(t *testing.T) {
	a, b := pair()
	for url := range a.luns {
		a.holds[url] = "the witness of a Quorate cluster"
	}
	validated(t, Options{}, a, b)
	for _, s := range append(a.steps, b.steps...) {
		if s != "latency" && s != "capabilities" && s != "close" {
			t.Errorf("step %s", s)
		}
	}
}

// TestPortalFails says which node does not reach which portal.
func TestPortalFails(t *testing.T) {
	a, b := pair()
	rep := validated(t, Options{Portals: []string{"192.168.0.1:3260"}}, a, b)
	i := slices.IndexFunc(rep.Checks, func(c *apipb.Check) bool { return c.Name == "SAN answers" })
	if c := rep.Checks[i]; c.Result != Failed || c.Subject != "s1" || !strings.Contains(c.Text, "portal 192.168.0.1:3260: no route to host") {
		t.Errorf("%v", c)
	}
}

func TestOptions(t *testing.T) {
	err := Options{Timeout: -1}.Validate()
	for _, field := range []string{"Session", "Timeout", "Now"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s is not named in %v", field, err)
		}
	}
}

// external is a virtual network on br0, with the bridges NODE=BRIDGE of nodes.
func external(own ...string) []*apipb.VirtualNetworkInfo {
	v := &apipb.VirtualNetworkInfo{Name: "External Virtual Network", Bridge: "br0", Machines: []string{"sql"}}
	for _, text := range own {
		node, bridge, _ := strings.Cut(text, "=")
		v.Nodes = append(v.Nodes, &apipb.VirtualNetworkNode{Node: node, Bridge: bridge})
	}
	return []*apipb.VirtualNetworkInfo{v}
}

// TestVirtualNetworkOnEveryNode passes, by another name on one.
func TestVirtualNetworkOnEveryNode(t *testing.T) {
	a, b := pair()
	a.desc.VirtualNetworks = external("s2=br1")
	for _, c := range validated(t, Options{}, a, b).Checks {
		if c.Name == "Virtual network" {
			if c.Result != Passed || c.Text != "its bridge is on every node, and up" {
				t.Errorf("%v", c)
			}
			return
		}
	}
	t.Error("it was not looked for")
}
