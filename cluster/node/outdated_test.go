package node

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
)

// alone is a clusterd without a noded, in folders and at ports of its own.
func alone(t *testing.T, dir string) *Node {
	t.Helper()
	port := func() int {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().(*net.TCPAddr).Port
	}
	n, err := New(Options{
		Name: "s1", StateDir: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), EtcDir: dir, StorageDir: dir,
		Listen: fmt.Sprintf("127.0.0.1:%d", port()), KeeperPort: port(), GossipPort: port(), Profile: "fast",
		ShareGuard: func(string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Stop)
	return n
}

// isTooOld waits until a node says that it must be upgraded, and has no part in the
// cluster.
func isTooOld(t *testing.T, n *Node) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err = n.handler.member(); errors.Is(err, cluster.ErrTooNew) && strings.Contains(err.Error(), "format") {
			return
		}
	}
	t.Fatalf("it says: %v", err)
}

// TestNodeThatIsTooOldSaysSo: a command and a database of a later version end a node's
// part in the cluster and not its clusterd, which says what is to be done; so it does
// after a restart.
func TestNodeThatIsTooOldSaysSo(t *testing.T) {
	dir := t.TempDir()
	n := alone(t, dir)
	if err := n.found(t.Context(), &apipb.CreateRequest{Name: "c"}, nil); err != nil {
		t.Fatal(err)
	}
	m := n.current()
	if err := m.waitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.db.view(func(s *pb.State) {
		if cluster.FormatOf(s) != cluster.Format {
			t.Errorf("a new cluster's database is of format %d", cluster.FormatOf(s))
		}
	})
	later := &pb.Command{Id: 7}
	later.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 500, protowire.VarintType), 1))
	data, err := proto.Marshal(later)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.raft.Propose(t.Context(), 7, data); err == nil {
		t.Fatal("it was understood")
	}
	isTooOld(t, n)
	n.Stop()
	isTooOld(t, alone(t, dir))

	// The same with a snapshot.
	dir = t.TempDir()
	n = alone(t, dir)
	if err := n.found(t.Context(), &apipb.CreateRequest{Name: "c"}, nil); err != nil {
		t.Fatal(err)
	}
	id := n.current().id
	n.Stop()
	db := cluster.Found(&pb.Cluster{Id: id.ClusterID, Name: "c", Format: cluster.Format + 1}, &pb.Node{Id: 1, Name: "s1"})
	snap, err := foundingSnapshot(db, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := prepareLog(t.Context(), n.opt.logPath(), logOptions(id), snap); err != nil {
		t.Fatal(err)
	}
	isTooOld(t, alone(t, dir))
}

// TestNodeOfAnOlderVersionKeepsTheFormat: a cluster begins in the newest format that all
// its nodes can.
func TestNodeOfAnOlderVersionKeepsTheFormat(t *testing.T) {
	n := alone(t, t.TempDir())
	old := &enrollee{about: &apipb.NodeDescription{Name: "s2", Version: "before"}}
	if err := n.found(t.Context(), &apipb.CreateRequest{Name: "c"}, []*enrollee{old}); err != nil {
		t.Fatal(err)
	}
	n.current().db.view(func(s *pb.State) {
		if cluster.FormatOf(s) != 1 {
			t.Errorf("the database is of format %d, and s2 can 1", cluster.FormatOf(s))
		}
	})
}
