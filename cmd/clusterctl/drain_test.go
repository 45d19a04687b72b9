package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

var drainPlanned = []*apipb.DrainItem{
	{Name: "vWS08-SQL01", Kind: "machine", How: "live", To: "s2"},
	{Name: "web2", Kind: "machine", How: "off", To: "s2"},
	{Name: "Volume1", Kind: "volume", How: "hands", To: "s2"},
	{Name: "Cluster Group", Kind: "address", How: "hands", To: "s2"},
}

var stuckItem = &apipb.DrainItem{Name: "files1", Kind: "machine", How: "cannot", Why: "no node can take it; not s2: 512 MiB are free, 4096 are needed"}

// drainSteps are how a drain stands, one look after the other.
var drainSteps = []*apipb.DrainInfo{
	{State: "draining", Why: "new memory", Force: "save", Left: []string{"vWS08-SQL01", "files1"}, Waits: "files1: no node can take it"},
	{State: "drained", Why: "new memory", Force: "save", Away: []string{"vWS08-SQL01", "web2", "Volume1"}, Held: []string{"files1"}},
}

func (f *fake) NodeDrain(_ context.Context, r *connect.Request[apipb.NodeDrainRequest]) (*connect.Response[apipb.NodeDrainResponse], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	res := &apipb.NodeDrainResponse{Node: "s1", Plan: drainPlanned}
	if r.Msg.Node == "s2" {
		res.Node, res.Plan = "s2", append([]*apipb.DrainItem{stuckItem}, drainPlanned...)
		if r.Msg.Force == "" && !r.Msg.Check {
			return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("not all can go from s2, and nothing was done: files1 (no room)"))
		}
	}
	if !r.Msg.Check {
		f.drained = drainSteps
	}
	return connect.NewResponse(res), nil
}

func (f *fake) NodeResume(_ context.Context, r *connect.Request[apipb.NodeResumeRequest]) (*connect.Response[apipb.NodeResumeResponse], error) {
	return connect.NewResponse(&apipb.NodeResumeResponse{Node: "s1", Away: []string{"vWS08-SQL01", "Volume1"}, Held: []string{"files1"}}), nil
}

func (f *fake) Disarm(_ context.Context, r *connect.Request[apipb.DisarmRequest]) (*connect.Response[apipb.DisarmResponse], error) {
	return connect.NewResponse(&apipb.DisarmResponse{Disarmed: &apipb.DisarmInfo{LeftMs: r.Msg.ForMs, SinceMs: 5, Why: r.Msg.Why}}), nil
}

func (f *fake) Arm(context.Context, *connect.Request[apipb.ArmRequest]) (*connect.Response[apipb.ArmResponse], error) {
	return connect.NewResponse(&apipb.ArmResponse{}), nil
}

// maintained puts into a status what drains and disarming make of it. f.mu is held.
func (f *fake) maintained(s *apipb.StatusResponse) *apipb.StatusResponse {
	s.Disarmed = f.disarmed
	if len(f.drained) == 0 {
		return s
	}
	s = proto.CloneOf(s)
	n := s.Nodes[0]
	n.Drain = f.drained[0]
	n.State, n.Reason = n.Drain.State, n.Drain.Waits
	if len(f.drained) > 1 {
		f.drained = f.drained[1:]
	}
	return s
}

// TestDrainedAndDisarmedIsShown: wherever nodes are.
func TestDrainedAndDisarmedIsShown(t *testing.T) {
	f := newFake(t)
	f.disarmed = &apipb.DisarmInfo{LeftMs: 1_754_000, SinceMs: 5, Why: "new switch"}
	var text strings.Builder
	for _, line := range []string{"status", "status -o json", "node list", "node show s1", "node show s1 -o json", "vm list"} {
		f.drained = drainSteps[:1]
		text.WriteString(show(t, f, line) + "\n")
	}
	f.drained = drainSteps[1:]
	golden(t, "maintenance", text.String()+show(t, f, "node show s1"))
}

func TestDrainIsRefusedWithItsPlan(t *testing.T) {
	f := newFake(t)
	golden(t, "node_drain_refused", show(t, f, "node drain s2")+"\n"+show(t, f, "node drain s2 --check")+"\n"+show(t, f, "node drain s2 --check --force stop"))
	if f.drained != nil {
		t.Error("it was begun")
	}
}

func TestWrongUsageOfMaintenance(t *testing.T) {
	f := newFake(t)
	for line, want := range map[string]string{
		"node drain":                     "name a node, or give --local",
		"node drain s1 --local":          "name none beside it",
		"node drain s1 --for ever":       "for a shutdown",
		"node drain s1 --cancel --check": "goes alone",
		"node resume":                    "name a node, or give --local",
		"disarm":                         "say for how long",
		"disarm --for -3s":               "say for how long",
	} {
		if r := f.run(t, strings.Fields(line)...); r.status != client.ExitUsage || !strings.Contains(r.err, want) {
			t.Errorf("%s: status %d, %q", line, r.status, r.err)
		}
	}
}
