//go:build cgo

package validate

import (
	"context"
	"testing"

	"go.uber.org/zap"

	"quorate/cluster/api/apipb"
	"quorate/disk/iscsi"
	"quorate/disk/san"
	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

// onSAN is a fake node with a real view of a SAN.
type onSAN struct {
	*fake
	san *san.San
}

func (o onSAN) SanDiscover(ctx context.Context, portal string) ([]*apipb.SanTarget, error) {
	found, err := o.san.Discover(ctx, portal, iscsi.CHAP{})
	var out []*apipb.SanTarget
	for _, f := range found {
		t := &apipb.SanTarget{Iqn: f.IQN, Error: f.Error}
		for _, l := range f.LUNs {
			t.Luns = append(t.Luns, &apipb.Lun{
				Url: l.URL, Id: l.ID, Serial: l.Serial, Vendor: l.Vendor, Product: l.Product, Size: l.Size, BlockSize: int32(l.BlockSize), Holds: l.Holds,
			})
		}
		out = append(out, t)
	}
	return out, err
}

func (o onSAN) SanList(context.Context) ([]*apipb.SanTarget, error) { return nil, nil }

func (o onSAN) ProbeLun(ctx context.Context, q *apipb.ProbeLunRequest) (*apipb.ProbeLunResponse, error) {
	r, err := o.san.Probe(ctx, san.ProbeRequest{URL: q.Url, Step: q.Step, Key: q.Key, Victim: q.Victim, Type: uint8(q.Type), Session: q.Session})
	res := &apipb.ProbeLunResponse{
		Conflict: r.Conflict, Error: r.Error, Keys: r.Keys, Holder: r.Holder, Type: uint32(r.Type), Generation: r.Generation,
		Reservations: r.Reservations, Persist: r.Persist, PreemptAbort: r.PreemptAbort,
	}
	for _, d := range r.Latency {
		res.LatencyUs = append(res.LatencyUs, d.Microseconds())
	}
	return res, err
}

// TestTarget validates three nodes on tgt: its reservations hold, and its
// weaknesses are found.
func TestTarget(t *testing.T) {
	_, portal := tgttest.Start(t, tgt.Options{IQN: "iqn.2026-11.test.quorate:san", LUNs: []tgt.LUN{
		{Number: 1, Name: "Q", Size: 500 << 20, ID: "51000001", Serial: "Q0001"}, {Number: 2, Name: "V", Size: 8 << 30, ID: "51000002", Serial: "V0001"},
	}})
	a, b := pair()
	c, _ := pair()
	c.desc.Name = "s3"
	var members []Member
	for i, f := range []*fake{a, b, c} {
		s, err := san.Open(san.Options{StateDir: t.TempDir(), Log: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		for _, addr := range f.desc.Addresses {
			addr.Host = addr.Network[:len(addr.Network)-len("0/24")] + string(rune('1'+i))
		}
		members = append(members, Member{f.desc.Name, onSAN{f, s}})
	}
	opt := Options{Session: "t", Now: a.now, Portals: []string{portal}}
	for range 2 { // the second finds nothing left by the first
		rep, err := Run(t.Context(), members, opt, func(*apipb.ValidateUpdate) {})
		if err != nil {
			t.Fatal(err)
		}
		results := map[string]string{}
		for _, c := range rep.Checks {
			results[c.Name] = c.Result
			t.Logf("%-9s %-8s %-24s %-32s %s", c.Result, c.Category, c.Name, c.Subject, c.Text)
		}
		for name, want := range map[string]string{
			"SAN answers": Passed, "Same LUNs": Passed, "Abilities": Warning, "Reservations": Passed, "Strictness": Warning, "Witness": Passed, "Volume": Passed,
		} {
			if results[name] != want {
				t.Errorf("%s: %s, not %s", name, results[name], want)
			}
		}
	}
}
