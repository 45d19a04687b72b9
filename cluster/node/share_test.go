package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	"quorate/quorum/witness"
)

// TestWitnessOnAShare: the witness goes to a share and away again, learns there,
// and is found there after a restart; what cannot hold it is refused before anything is
// written. The test vouches for its directory.
func TestWitnessOnAShare(t *testing.T) {
	dir, share := t.TempDir(), t.TempDir()
	n := alone(t, dir)
	if err := n.found(t.Context(), &apipb.CreateRequest{Name: "c"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := n.current().waitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	set := func(mode, share string) error {
		_, err := n.handler.QuorumSet(t.Context(), connect.NewRequest(&apipb.QuorumSetRequest{Mode: mode, Share: share}))
		return err
	}
	for _, bad := range []string{"", "relative"} {
		if err := set("node-and-share-majority", bad); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Fatalf("%q: %v", bad, err)
		}
	}
	guard := n.opt.ShareGuard
	n.opt.ShareGuard = nil
	if err := set("node-and-share-majority", share); !errors.Is(err, witness.ErrUnguarded) {
		t.Fatal(err)
	}
	n.opt.ShareGuard = guard
	if left, err := os.ReadDir(share); err != nil || len(left) > 0 {
		t.Fatalf("%v, %v", left, err)
	}
	if err := set("node-and-share-majority", share); err != nil {
		t.Fatal(err)
	}
	// One node needs no witness to have quorum: it learns, and waits for its vote.
	online := func() {
		t.Helper()
		m := n.current()
		learned := func() bool {
			w := m.hosting.statuses()
			return len(w) == 1 && m.raft.Status().IsLeader && w[0].Applied >= m.raft.Status().Applied
		}
		for end := time.Now().Add(time.Minute); !learned(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				w := m.hosting.status(cluster.FirstWitness)
				t.Fatalf("the witness has not learned what the node knows: %+v, %+v, %+v", w, m.hosting.statuses(), m.raft.Status())
			}
		}
		if w := m.status().Quorum.Witness; w.State != "online" || w.Host != "s1" || w.Disk != "" || filepath.Dir(w.Share) != share {
			t.Fatalf("%v", w)
		}
	}
	online()
	if err := set("node-and-share-majority", ""); err != nil { // it is there already
		t.Fatal(err)
	}
	n.Stop()
	n = alone(t, dir)
	online()
	if err := set("node-majority", ""); err != nil {
		t.Fatal(err)
	}
	if q := n.current().status().Quorum; q.Witness.State != "none" || q.Total != 1 {
		t.Fatalf("%v", q)
	}
}

// TestCreateWithAShare: a cluster begins with its witness on a share; a request that
// cannot be met founds none.
func TestCreateWithAShare(t *testing.T) {
	share := t.TempDir()
	n := alone(t, t.TempDir())
	create := func(r *apipb.CreateRequest) error {
		return n.create(t.Context(), r, func(*apipb.Progress) error { return nil })
	}
	for want, r := range map[string]*apipb.CreateRequest{
		"not an absolute path": {Name: "c", Share: "relative"},
		"with no disk":         {Name: "c", Share: share, Witness: "Cluster Disk 1"},
		"the mode":             {Name: "c", Share: share, Quorum: "node-majority"},
		"no quorum mode":       {Name: "c", Quorum: "most"},
	} {
		if err := create(r); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", r, err)
		}
	}
	guard := n.opt.ShareGuard
	n.opt.ShareGuard = nil
	if err := create(&apipb.CreateRequest{Name: "c", Share: share}); !errors.Is(err, witness.ErrUnguarded) {
		t.Error(err)
	}
	n.opt.ShareGuard = guard
	if n.current() != nil {
		t.Fatal("a cluster was founded")
	}
	if err := create(&apipb.CreateRequest{Name: "c", Share: share}); err != nil {
		t.Fatal(err)
	}
	if q := n.current().status().Quorum; q.Mode != "node-and-share-majority" || filepath.Dir(q.Witness.Share) != share {
		t.Fatalf("%v", q)
	}
}
