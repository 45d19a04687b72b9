package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/trust"
)

// founded is a log with a database of one node and one command that is not known
// to be committed.
func founded(t *testing.T) consensus.State {
	t.Helper()
	db := cluster.Found(&pb.Cluster{Id: "c1", Name: "cl"}, &pb.Node{Id: 1, Name: "s1"})
	snap, err := foundingSnapshot(db, 1)
	if err != nil {
		t.Fatal(err)
	}
	cmd, err := proto.Marshal(&pb.Command{Id: 7, Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	if err != nil {
		t.Fatal(err)
	}
	return consensus.State{
		Snapshot: snap, Hard: &raftpb.HardState{Term: proto.Uint64(4), Commit: proto.Uint64(1)},
		Entries: []*raftpb.Entry{{Index: proto.Uint64(2), Term: proto.Uint64(4), Type: raftpb.EntryNormal.Enum(), Data: cmd}},
	}
}

// TestForceKeepsWhatMayHaveBeenCommitted: an entry that a majority may have had
// counts, and the new log lies beyond everything in the old one.
func TestForceKeepsWhatMayHaveBeenCommitted(t *testing.T) {
	snap, err := forced(founded(t), 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	db := cluster.NewDatabase()
	if err := db.Restore(snap.Data); err != nil {
		t.Fatal(err)
	}
	meta := snap.GetMetadata()
	if s := db.State(); !s.Cluster.CsvEnabled || s.Cluster.Incarnation != 1<<16+1 {
		t.Fatalf("%v", s.Cluster)
	}
	if v := meta.GetConfState().GetVoters(); meta.GetIndex() != 3 || meta.GetTerm() != 5 || len(v) != 1 || v[0] != 1 {
		t.Fatalf("%v", meta)
	}
}

// TestPromiseToFollowOutlivesACrash: once a node has promised to follow a later
// incarnation it does not use its old log again, wherever it was interrupted.
func TestPromiseToFollowOutlivesACrash(t *testing.T) {
	dir := t.TempDir()
	n := &Node{opt: Options{StateDir: dir}}
	old := founded(t)
	if got, err := n.incarnationOf(old); err != nil || got != 0 {
		t.Fatalf("%d, %v", got, err)
	}
	if err := saveIncarnation(n.opt.incarnationPath(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := n.incarnationOf(old); !errors.Is(err, cluster.ErrSuperseded) {
		t.Fatalf("the old log is used: %v", err)
	}
	snap, err := forced(old, 1, 5)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := n.incarnationOf(consensus.State{Snapshot: snap}); err != nil || got != 1<<16+1 {
		t.Fatalf("the forced log: %d, %v", got, err)
	}
	opt := logOptions(&trust.Identity{ClusterID: "c1", NodeID: 1})
	if err := os.WriteFile(n.opt.logPath(), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := putAside(context.Background(), n.opt.logPath(), opt); err != nil {
		t.Fatal(err)
	}
	if kept, err := os.ReadFile(filepath.Join(dir, "raft.log.superseded")); err != nil || string(kept) != "old" {
		t.Fatalf("%q, %v", kept, err)
	}
	if got, err := n.incarnationOf(consensus.State{Snapshot: &raftpb.Snapshot{}}); err != nil || got != 1 {
		t.Fatalf("an empty log: %d, %v", got, err)
	}
}
