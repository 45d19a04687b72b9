package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"quorate/test/lab"
	"quorate/test/stage"
)

// network is one of `network list`.
type network struct {
	Name, Subnet, Role, State, Detail string
	Addresses                         map[string]string
}

func networks(s *stage.Stage, node string) map[string]network {
	var list []network
	if err := json.Unmarshal([]byte(s.Must(node, "network", "list", "-o", "json")), &list); err != nil {
		s.Check(err)
	}
	out := map[string]network{}
	for _, n := range list {
		out[n.Subnet] = n
	}
	return out
}

// events are those of a kind, as "subject: text".
func events(s *stage.Stage, node, kind string) (out []string) {
	for line := range strings.Lines(s.Must(node, "events", "-o", "json")) {
		var e struct{ Kind, Subject, Text string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			s.Check(err)
		}
		if e.Kind == kind {
			out = append(out, e.Subject+": "+e.Text)
		}
	}
	return out
}

const (
	clientsNet   = "192.168.100.0/24"
	migrationNet = "192.168.101.0/24"
	storageNet   = "192.168.0.0/24"
)

// TestOneNetworkLostCostsAWarning cuts each network of the cluster on the leader in
// turn: nobody is taken for dead, nobody else leads, nothing changes hands; the
// warning names node and network.
func TestOneNetworkLostCostsAWarning(t *testing.T) {
	s := stage.Raise(t, 2)
	s.Create()
	nets := networks(s, "s1")
	for subnet, role := range map[string]string{clientsNet: "cluster-and-client", migrationNet: "cluster", storageNet: "none"} {
		if n := nets[subnet]; n.Role != role || len(n.Addresses) != 2 || n.State != "up" {
			t.Fatalf("%s is %+v, want the role %s", subnet, n, role)
		}
	}
	s.Must("s1", "network", "set", migrationNet, "--name", "Migration", "--metric", "500")
	if _, errs, code := s.Ctl("s1", "network", "set", "Migration", "--role", "none"); code != 0 {
		t.Fatalf("%d: %s", code, errs) // the clients' network remains
	}
	s.Must("s1", "network", "set", "Migration", "--role", "cluster")
	before := s.MustStatus("s1")
	for i, cut := range []struct{ cable, subnet string }{{lab.Clients, clientsNet}, {lab.Migration, migrationNet}} {
		s.Cut("s1", cut.cable)
		s.Eventually("partitioned", func() error {
			if n := networks(s, "s2")[cut.subnet]; n.State != "partitioned" || n.Detail != "s1 is not reached by s2; s2 is not reached by s1" {
				return fmt.Errorf("%+v", n)
			}
			return nil
		})
		s.Heal("s1", cut.cable)
		s.Eventually("whole again", func() error {
			if n := networks(s, "s2")[cut.subnet]; n.State != "up" {
				return fmt.Errorf("%+v", n)
			}
			return nil
		})
		if lost, restored := events(s, "s2", "network-path-lost"), events(s, "s2", "network-path-restored"); len(lost) != 2*(i+1) || len(restored) != len(lost) {
			t.Fatalf("lost:\n%s\nrestored:\n%s", strings.Join(lost, "\n"), strings.Join(restored, "\n"))
		}
	}
	after := s.MustStatus("s1")
	if after.Quorum != before.Quorum {
		t.Fatalf("quorum was %+v, is %+v", before.Quorum, after.Quorum)
	}
	for _, kind := range []string{"node-down", "group-moved"} {
		if list := events(s, "s1", kind); len(list) > 0 {
			t.Fatalf("it cost: %v", list)
		}
	}
}
