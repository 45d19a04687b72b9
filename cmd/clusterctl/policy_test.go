package main

import (
	"context"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
)

var policyShown = &apipb.PolicyInfo{
	Priority: "high", Preferred: []string{"s1", "s2"}, Failovers: 1, MaxFailovers: 3, FailoverPeriodMs: 3600_000, Failback: "22-6", Away: "s2", Rules: []string{"controllers"},
}

var rules = []*apipb.RuleInfo{
	{Name: "controllers", Kind: "apart", Strict: true, Groups: []string{"dc1", "dc2"}},
	{Name: "shop", Kind: "together", Groups: []string{"db", "web"}, Broken: "db on s1, web on s2"},
}

func (f *fake) GroupSet(context.Context, *connect.Request[apipb.GroupSetRequest]) (*connect.Response[apipb.GroupSetResponse], error) {
	return connect.NewResponse(&apipb.GroupSetResponse{Group: web}), nil
}

func (f *fake) RuleSet(context.Context, *connect.Request[apipb.RuleSetRequest]) (*connect.Response[apipb.RuleSetResponse], error) {
	return connect.NewResponse(&apipb.RuleSetResponse{Rule: rules[0]}), nil
}

func (f *fake) RuleRemove(context.Context, *connect.Request[apipb.RuleRemoveRequest]) (*connect.Response[apipb.RuleRemoveResponse], error) {
	return connect.NewResponse(&apipb.RuleRemoveResponse{}), nil
}

func (f *fake) Explain(context.Context, *connect.Request[apipb.ExplainRequest]) (*connect.Response[apipb.ExplainResponse], error) {
	return connect.NewResponse(&apipb.ExplainResponse{
		Group: web, Best: "s1", Why: "it is preferred there",
		Nodes: []*apipb.NodeVerdict{{Node: "s2", Why: "512 MiB are free, 2048 are needed"}},
		Notes: []string{"rule controllers: dc1, dc2 never run on the same node"},
	}), nil
}

func (f *fake) Plan(_ context.Context, r *connect.Request[apipb.PlanRequest]) (*connect.Response[apipb.PlanResponse], error) {
	res := &apipb.PlanResponse{Items: []*apipb.PlanItem{
		{Name: "Volume1", Kind: "volume", From: "s1", To: "s2", Why: "s1 is down and can no longer write to it"},
		{Name: "web2", Kind: "machine", From: "s1", To: "s2", Off: true, Why: "s1 is down; chosen because no other node can take it"},
		{Name: "vWS08-SQL01", Kind: "machine", From: "s1", Why: "no node can take it; not s2: 512 MiB are free, 2048 are needed"},
	}}
	if len(r.Msg.Lost) > 1 {
		res.Quorum = "lost, were s1 and s2 lost at once"
	}
	return connect.NewResponse(res), nil
}

// TestGroupSetSaysWhatIsMeant: what is named is set, and nothing else.
func TestGroupSetSaysWhatIsMeant(t *testing.T) {
	for line, want := range map[string]string{
		"--priority low":                           `name:"web"  priority:"low"`,
		"--preferred none":                         `name:"web"  preferred:{}`,
		"--possible s1,s2":                         `name:"web"  possible:{names:"s1"  names:"s2"}`,
		"--failovers unlimited":                    `name:"web"  max_failovers:0`,
		"--failovers default":                      `name:"web"  failovers_default:true`,
		"--failovers 2":                            `name:"web"  max_failovers:2`,
		"--failover-period 90m":                    `name:"web"  failover_period_ms:5400000`,
		"--failback at-once":                       `name:"web"  failback:"at-once"`,
		"--failovers 0":                            "--failovers",
		"--failovers -1":                           "--failovers",
		"--failovers default --failover-period 1h": "leave --failover-period out",
		"--failover-period 1ms":                    "too short",
		"":                                         "say what to set",
	} {
		f := newFake(t)
		r := f.run(t, strings.Fields("group set web "+line)...)
		got := r.err
		if r.status == 0 {
			got = strings.Join(f.asked, "\n")
		}
		// The text form of a message has one blank or two between its fields.
		plain := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if !strings.Contains(plain(got), plain(want)) || (r.status == 0) != strings.HasPrefix(want, "name:") {
			t.Errorf("%s: exit status %d, %s", line, r.status, got)
		}
	}
}
