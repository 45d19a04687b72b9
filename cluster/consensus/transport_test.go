package consensus

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/consensus/consensuspb"
)

type received struct {
	m   *raftpb.Message
	gen uint64
}

// node is a transport with two listeners on loopback.
func node(t *testing.T, self, peer uint64) (*Transport, []string, chan received) {
	t.Helper()
	in := make(chan received, 100)
	tr := NewTransport(TransportOptions{
		Self: self, KeepAlive: 20 * time.Millisecond, Log: zap.NewNop(),
		Dial: func(ctx context.Context, _ uint64, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
		Deliver: func(m *raftpb.Message, gen uint64) { in <- received{m, gen} },
	})
	var addrs []string
	for range 2 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go tr.Serve(c, peer)
			}
		}()
		t.Cleanup(func() { l.Close(); <-done })
	}
	t.Cleanup(tr.Close)
	return tr, addrs, in
}

func message(from, to uint64) *raftpb.Message {
	return &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: proto.Uint64(from), To: proto.Uint64(to), Term: proto.Uint64(3)}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func TestTransportReachesNodeAndHostOfWitness(t *testing.T) {
	a, addrsA, inA := node(t, 1, 2)
	b, addrsB, inB := node(t, 2, 1)
	a.SetPeers(map[uint64][]string{1: addrsA, 2: addrsB})
	b.SetPeers(map[uint64][]string{1: addrsA, 2: addrsB})
	eventually(t, "all paths up", func() bool {
		n := 0
		for _, tr := range []*Transport{a, b} {
			for _, paths := range tr.Paths() {
				for _, up := range paths {
					if up {
						n++
					}
				}
			}
		}
		return n == 4
	})
	a.Send([]*raftpb.Message{message(1, 2)}, 0)
	if got := <-inB; got.m.GetFrom() != 1 || got.m.GetTerm() != 3 {
		t.Fatalf("got %v", got)
	}
	b.SetHosting(7)
	eventually(t, "1 knows the host", func() bool {
		a.mu.Lock()
		nodes, local := a.mu.routes.Targets(FirstWitness, nil)
		a.mu.Unlock()
		return !local && len(nodes) == 1 && nodes[0] == 2 && a.Heard()[2] != time.Time{}
	})
	for len(inB) > 0 { // the copy over the second path
		<-inB
	}
	a.Send([]*raftpb.Message{message(1, FirstWitness)}, 0)
	for got := range inB {
		if got.m.GetTo() == FirstWitness {
			if got.gen != 7 {
				t.Fatalf("generation %d", got.gen)
			}
			break
		}
	}
	b.Send([]*raftpb.Message{message(2, FirstWitness)}, 0)
	eventually(t, "delivered locally", func() bool { return (<-inB).m.GetFrom() == 2 })
	b.Send([]*raftpb.Message{message(FirstWitness, 1)}, 7)
	if got := <-inA; got.gen != 7 || got.m.GetFrom() != FirstWitness {
		t.Fatalf("got %v", got)
	}
}

func TestForgedFramesEndTheConnection(t *testing.T) {
	tr, _, in := node(t, 1, 2)
	forged, _ := proto.Marshal(message(3, 1))
	for name, frame := range map[string][]byte{
		"another's frame":   encodeFrame(&consensuspb.Frame{From: 3}),
		"another's message": encodeFrame(&consensuspb.Frame{From: 2, Message: forged}),
		"rubbish message":   encodeFrame(&consensuspb.Frame{From: 2, Message: []byte{0xff, 0xff}}),
		"rubbish":           {0, 0, 0, 2, 0xff, 0xff},
		"huge":              {0xff, 0xff, 0xff, 0xff},
	} {
		a, b := net.Pipe()
		go func() { b.Write(frame) }()
		if err := tr.Serve(a, 2); err == nil {
			t.Errorf("%s: taken", name)
		}
		b.Close()
	}
	if len(in) != 0 {
		t.Fatal("something was delivered")
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(encodeFrame(&consensuspb.Frame{From: 1, Message: []byte("x"), Hosting: 3}))
	f.Fuzz(func(_ *testing.T, data []byte) { readFrame(bytes.NewReader(data)) })
}
