package consensus

import (
	"net"
	"testing"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"go.etcd.io/raft/v3/raftpb"

	"quorate/cluster/consensus/consensuspb"
)

// TestNothingOfAnotherIncarnationIsDelivered: the nodes of before are refused, and
// a node of before learns that it is one, whoever of the two speaks.
func TestNothingOfAnotherIncarnationIsDelivered(t *testing.T) {
	msg, _ := proto.Marshal(message(2, 1))
	for _, c := range []struct {
		own, theirs     uint64
		delivered, told bool
	}{{1, 1, true, false}, {1, 0, false, false}, {0, 1, false, true}} {
		delivered, told := false, false
		tr := NewTransport(TransportOptions{
			Self: 1, Incarnation: c.own, Log: zap.NewNop(), Deliver: func(*raftpb.Message, uint64) { delivered = true },
			Superseded: func(by uint64) { told = by == c.theirs },
		})
		a, b := net.Pipe()
		go func() {
			_, _ = b.Write(encodeFrame(&consensuspb.Frame{From: 2, Message: msg, Incarnation: c.theirs}))
			b.Close()
		}()
		_ = tr.Serve(a, 2)
		if delivered != c.delivered || told != c.told {
			t.Errorf("own %d, theirs %d: delivered %v, told %v", c.own, c.theirs, delivered, told)
		}
		if f := tr.frame(); f.Incarnation != c.own {
			t.Errorf("it sends incarnation %d", f.Incarnation)
		}
		tr.Close()
	}
}
