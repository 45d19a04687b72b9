package node

import (
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/keeper/keeperpb"
)

// TestLeasesNeverWaitForWhoDecides: questions for a lease, the leader's decisions
// and commands that are applied go on side by side. Each pair of locks is taken in
// one order, or the three would soon wait for each other for ever.
func TestLeasesNeverWaitForWhoDecides(t *testing.T) {
	profile, err := cluster.ProfileNamed("normal")
	if err != nil {
		t.Fatal(err)
	}
	m := &member{db: newReplica(), named: profile, transport: consensus.NewTransport(consensus.TransportOptions{Self: 1, Log: zap.NewNop()})}
	defer m.transport.Close()
	m.leases = newLeases(m)
	founded, err := cluster.Found(&pb.Cluster{Id: "c", Name: "c"}, &pb.Node{Id: 1, Name: "s1"}).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.db.Restore(founded); err != nil {
		t.Fatal(err)
	}
	st := consensus.Status{ID: 1, Leader: 1, IsLeader: true, Term: 2, LastQuorum: time.Now()}
	const times = 20000
	var wg sync.WaitGroup
	for _, do := range []func(i int){
		func(int) { m.leases.answer(st, 1, &keeperpb.RenewRequest{NodeId: 1, NodeEpoch: 1}) },
		func(int) { m.db.view(func(s *pb.State) { m.leases.heard(st.Term, []uint64{1}) }) },
		func(i int) {
			note := &pb.Command{Id: uint64(i + 1), Kind: &pb.Command_Note{Note: &pb.Note{Text: "x"}}}
			data, err := proto.Marshal(note)
			if err != nil {
				t.Error(err)
			}
			m.db.Apply(uint64(i+1), 2, data)
		},
	} {
		wg.Go(func() {
			for i := range times {
				do(i)
			}
		})
	}
	wg.Wait()
}
