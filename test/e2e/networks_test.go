package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"quorate/test/lab"
)

// network is one of `network list`.
type network struct {
	Name, Subnet, Role, State, Detail string
	Addresses                         map[string]string
}

func (w *world) networks(node string) map[string]network {
	w.t.Helper()
	var list []network
	if err := json.Unmarshal([]byte(w.must(node, "network", "list", "-o", "json")), &list); err != nil {
		w.t.Fatal(err)
	}
	out := map[string]network{}
	for _, n := range list {
		out[n.Subnet] = n
	}
	return out
}

// events are those of a kind, as "subject: text".
func (w *world) events(node, kind string) (out []string) {
	w.t.Helper()
	for line := range strings.Lines(w.must(node, "events", "-o", "json")) {
		var e struct{ Kind, Subject, Text string }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			w.t.Fatal(err)
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
	w := raise(t, 2)
	w.create()
	nets := w.networks("s1")
	for subnet, role := range map[string]string{clientsNet: "cluster-and-client", migrationNet: "cluster", storageNet: "none"} {
		if n := nets[subnet]; n.Role != role || len(n.Addresses) != 2 || n.State != "up" {
			t.Fatalf("%s is %+v, want the role %s", subnet, n, role)
		}
	}
	w.must("s1", "network", "set", migrationNet, "--name", "Migration", "--metric", "500")
	if _, errs, code := w.ctl("s1", "network", "set", "Migration", "--role", "none"); code != 0 {
		t.Fatalf("%d: %s", code, errs) // the clients' network remains
	}
	w.must("s1", "network", "set", "Migration", "--role", "cluster")
	before := w.mustStatus("s1")
	for i, cut := range []struct{ cable, subnet string }{{lab.Clients, clientsNet}, {lab.Migration, migrationNet}} {
		if err := w.lab.Cut(context.Background(), "s1", cut.cable); err != nil {
			t.Fatal(err)
		}
		w.eventually(settle, "partitioned", func() error {
			if n := w.networks("s2")[cut.subnet]; n.State != "partitioned" || !strings.Contains(n.Detail, "s1 is not reached by s2") {
				return fmt.Errorf("%+v", n)
			}
			return nil
		})
		if err := w.lab.Heal(context.Background(), "s1", cut.cable); err != nil {
			t.Fatal(err)
		}
		w.eventually(settle, "whole again", func() error {
			if n := w.networks("s2")[cut.subnet]; n.State != "up" {
				return fmt.Errorf("%+v", n)
			}
			return nil
		})
		if lost, restored := w.events("s2", "network-path-lost"), w.events("s2", "network-path-restored"); len(lost) != 2*(i+1) || len(restored) != len(lost) {
			t.Fatalf("lost:\n%s\nrestored:\n%s", strings.Join(lost, "\n"), strings.Join(restored, "\n"))
		}
	}
	after := w.mustStatus("s1")
	if after.Quorum != before.Quorum {
		t.Fatalf("quorum was %+v, is %+v", before.Quorum, after.Quorum)
	}
	for _, kind := range []string{"node-down", "group-moved"} {
		if list := w.events("s1", kind); len(list) > 0 {
			t.Fatalf("it cost: %v", list)
		}
	}
}
