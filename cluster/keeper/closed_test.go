package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
)

// TestClosedVolumeIsCheckedAndAdopted: a volume that is detached leaves no key; this
// node looks at it, mends it, and takes it in under another name, from another cluster
// only with force.
func TestClosedVolumeIsCheckedAndAdopted(t *testing.T) {
	r := newRig(t)
	r.leader.lease = 30_000 // none is lost on a busy machine
	a := r.start(1, 1)
	r.format(a)
	path := r.attach(a, 0x101, a, 1)
	r.coordinate(a, 1)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("kept"), 0o600))
	check := func(repair bool) (*keeperpb.CheckResponse, error) {
		res, err := a.api.Check(background, connect.NewRequest(&keeperpb.CheckRequest{Volume: "Volume1", Lun: r.at(), Key: 0x101, Epoch: 2, Repair: repair}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	if _, err := check(false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("one that is attached: %v", err)
	}
	_, err := a.api.Detach(background, connect.NewRequest(&keeperpb.DetachRequest{Volume: "Volume1"}))
	must(t, err)
	other := r.lun.Nexus("other")
	keys := func() []disk.Key {
		t.Helper()
		got, err := other.Reservations(background)
		for err != nil { // it is told of each change once
			var ua *disk.AttentionError
			if !errors.As(err, &ua) {
				t.Fatal(err)
			}
			got, err = other.Reservations(background)
		}
		return got.Keys
	}
	if k := keys(); len(k) > 0 {
		t.Fatalf("it left keys %v", k)
	}
	got, err := check(false)
	must(t, err)
	if got.Files != 1 || len(got.Findings) > 0 {
		t.Fatal(got)
	}
	must(t, r.lun.WriteAt(background, make([]byte, 4096), 0)) // the first label
	for _, repair := range []bool{true, false} {
		got, err = check(repair)
		must(t, err)
		if want := map[bool]int{true: 1}[repair]; len(got.Findings) != want {
			t.Fatal(repair, got)
		}
	}

	adopt := func(cluster string, force bool) (*keeperpb.AdoptResponse, error) {
		res, err := a.api.Adopt(background, connect.NewRequest(&keeperpb.AdoptRequest{Lun: r.at(), Volume: "Archive", ClusterId: cluster, Force: force, Key: 0x101}))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	if _, err := adopt("cluster2", false); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Fatalf("another cluster's: %v", err)
	}
	must(t, reserve(background, other, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 0x777}))
	if _, err := adopt("cluster1", false); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("one that somebody is registered on: %v", err)
	}
	res, err := adopt("cluster1", true)
	must(t, err)
	if k := keys(); len(k) > 0 || res.Volume != "Archive" || res.Cluster != "cluster1" || res.Epoch < 3 {
		t.Fatal(res, k)
	}
	at, err := a.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{
		Volume: "Archive", Lun: r.at(), Key: 0x101, Epoch: res.Epoch + 1, Coordinator: &keeperpb.Coordinator{NodeId: 1, Addrs: []string{a.addr()}},
	}))
	must(t, err)
	_, err = a.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Archive", Epoch: res.Epoch + 1}))
	must(t, err)
	pollOnce(t, at.Msg.Path)
	data, err := os.ReadFile(filepath.Join(at.Msg.Path, "x"))
	must(t, err)
	if string(data) != "kept" {
		t.Fatalf("it reads %q", data)
	}
}
