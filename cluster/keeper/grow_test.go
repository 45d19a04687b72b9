package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
)

// TestVolumeGrows: the coordinator takes a grown LUN in; a node that knew the old size
// writes behind it, and coordinates the volume next.
func TestVolumeGrows(t *testing.T) {
	r := newRig(t)
	r.leader.lease = 30_000 // none is lost on a busy machine
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	pa, pb := r.attach(a, 0x101, a, 1), r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	grow := func(n *testNode, look bool) (*keeperpb.GrowResponse, error) {
		res, err := n.api.Grow(background, connect.NewRequest(&keeperpb.GrowRequest{Volume: "Volume1", Look: look}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	if _, err := grow(a, false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("a LUN that has not grown: %v", err)
	}
	const was, is = 256 << 20, 320 << 20
	r.lun.Resize(is)
	if res, err := grow(a, true); err != nil || res.LunSize != is || res.To != 0 {
		t.Fatal(res, err)
	}
	if _, err := grow(b, false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("a node that does not coordinate it: %v", err)
	}
	before := a.state2().Volumes[0].Size
	res, err := grow(a, false)
	must(t, err)
	if res.From != was || res.To != is {
		t.Fatal(res)
	}
	if got := a.state2().Volumes[0].Size - before; got != is-was {
		t.Fatalf("it grew by %d", got)
	}
	data := bytes.Repeat([]byte("behind the old end"), 1<<20)
	must(t, os.WriteFile(filepath.Join(pb, "x"), data, 0o600))
	_, err = a.api.Relinquish(background, connect.NewRequest(&keeperpb.RelinquishRequest{Volume: "Volume1", Epoch: 1}))
	must(t, err)
	r.coordinate(b, 2)
	r.attach(a, 0x101, b, 2)
	r.attach(b, 0x102, b, 2)
	got, err := os.ReadFile(filepath.Join(pa, "x"))
	must(t, err)
	if !bytes.Equal(got, data) {
		t.Fatal("it reads something else")
	}
	if size := b.state2().Volumes[0].Size - before; size != is-was {
		t.Fatalf("the next coordinator has %d more", size)
	}
}
