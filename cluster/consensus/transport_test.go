package consensus

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
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
	eventually(t, "all paths up", func() bool { return whole(a)+whole(b) == 4 })
	a.Send([]*raftpb.Message{message(1, 2)}, 0)
	if got := <-inB; got.m.GetFrom() != 1 || got.m.GetTerm() != 3 {
		t.Fatalf("got %v", got)
	}
	b.SetHosting(FirstWitness, 7)
	eventually(t, "1 knows the host", func() bool {
		a.mu.Lock()
		nodes, local := a.mu.routes.Targets(FirstWitness, nil)
		a.mu.Unlock()
		return !local && len(nodes) == 1 && nodes[0] == 2 && a.Host(FirstWitness) == 2
	})
	a.Send([]*raftpb.Message{message(1, FirstWitness)}, 0)
	if got := <-inB; got.m.GetTo() != FirstWitness || got.gen != 7 {
		t.Fatalf("got %v", got)
	}
	b.Send([]*raftpb.Message{message(2, FirstWitness)}, 0)
	if got := <-inB; got.m.GetFrom() != 2 {
		t.Fatalf("delivered locally: %v", got)
	}
	b.Send([]*raftpb.Message{message(FirstWitness, 1)}, 7)
	if got := <-inA; got.gen != 7 || got.m.GetFrom() != FirstWitness {
		t.Fatalf("got %v", got)
	}
}

// whole counts a transport's paths that are.
func whole(t *Transport) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, paths := range t.mu.peers {
		for _, p := range paths {
			if p.acks.Load() && p.whole() {
				n++
			}
		}
	}
	return n
}

// TestLargeFrameAvoidsAPathThatIsCut: a network that swallows what is sent looks
// connected for long; what goes over one path alone goes over another at once.
func TestLargeFrameAvoidsAPathThatIsCut(t *testing.T) {
	a, addrsA, _ := node(t, 1, 2)
	_, addrsB, inB := node(t, 2, 1)
	var swallow atomic.Bool
	a.opt.Dial = func(ctx context.Context, _ uint64, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if addr == addrsB[0] && err == nil {
			c = &cutConn{Conn: c, cut: &swallow}
		}
		return c, err
	}
	a.SetPeers(map[uint64][]string{1: addrsA, 2: addrsB})
	eventually(t, "both paths up", func() bool { return whole(a) == 2 })
	swallow.Store(true)
	eventually(t, "the cut is noticed", func() bool { return whole(a) == 1 })
	m := message(1, 2)
	m.Context = make([]byte, 2*smallFrame)
	for range 5 {
		a.Send([]*raftpb.Message{m}, 0)
		<-inB
	}
	if lost := a.Paths()[2]; !lost[addrsB[0]].Before(lost[addrsB[1]]) {
		t.Fatalf("the paths were heard at %v", lost)
	}
	swallow.Store(false)
	eventually(t, "both paths up again", func() bool { return whole(a) == 2 })
}

// cutConn loses what is written to it while its network is cut.
type cutConn struct {
	net.Conn
	cut *atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if c.cut.Load() {
		return len(b), nil
	}
	return c.Conn.Write(b)
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
	f.Add(encodeFrame(&consensuspb.Frame{From: 1, Message: []byte("x"), Hosted: []*consensuspb.Hosted{{Voter: FirstWitness, Generation: 3}}}))
	f.Fuzz(func(_ *testing.T, data []byte) { (&frames{r: bytes.NewReader(data)}).next() })
}
