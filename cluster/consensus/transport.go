package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/consensus/consensuspb"
)

// FirstWitness is the lowest raft id of a witness; nodes' ids are lower.
const FirstWitness = 1 << 32

// ErrTransportClosed is returned by Serve after Close.
var ErrTransportClosed = errors.New("transport closed")

// TransportOptions are a transport's.
type TransportOptions struct {
	// Self is this node's id.
	Self uint64
	// Dial connects to a peer's address and proves both sides' identity.
	Dial func(ctx context.Context, peer uint64, address string) (net.Conn, error)
	// Deliver gets what peers sent, and what is sent to a voter on this node.
	// It must not block.
	Deliver func(m *raftpb.Message, generation uint64)
	// Incarnation is the cluster's as this node has it, raised whenever quorum
	// is forced. Nothing of an earlier one is delivered; Superseded is told of
	// a later one. It must not block.
	Incarnation uint64
	Superseded  func(incarnation uint64)
	// KeepAlive is how often something is sent on each path, at first: see
	// SetKeepAlive.
	KeepAlive time.Duration
	Log       *zap.Logger
}

// Transport carries raft's messages between nodes, over every address that it
// was given for a peer: what is small goes over all of them, so that the loss of
// one network costs nothing, and the copy that comes first is delivered.
type Transport struct {
	opt     TransportOptions
	began   time.Time
	every   atomic.Int64 // how often a keepalive is sent, in nanoseconds
	session uint64
	numbers atomic.Uint64 // of messages sent
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	mu struct {
		sync.Mutex
		peers  map[uint64]map[string]*path
		conns  map[net.Conn]struct{} // accepted
		routes *Routes
		came   map[uint64]*window // by peer
		closed bool
	}
}

// NewTransport makes one without peers.
func NewTransport(opt TransportOptions) *Transport {
	t := &Transport{opt: opt, began: time.Now(), session: rand.Uint64()}
	t.SetKeepAlive(opt.KeepAlive)
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.mu.peers = map[uint64]map[string]*path{}
	t.mu.conns = map[net.Conn]struct{}{}
	t.mu.routes = NewRoutes(opt.Self)
	t.mu.came = map[uint64]*window{}
	return t
}

// SetKeepAlive sets how often something is sent on each path.
func (t *Transport) SetKeepAlive(every time.Duration) { t.every.Store(int64(every)) }

func (t *Transport) keepAliveEvery() time.Duration { return time.Duration(t.every.Load()) }

// SetPeers replaces the peers and their addresses, host:port, the preferred
// first.
func (t *Transport) SetPeers(peers map[uint64][]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return
	}
	for id, paths := range t.mu.peers {
		for addr, p := range paths {
			if !slices.Contains(peers[id], addr) {
				p.cancel()
				delete(paths, addr)
			}
		}
		if len(paths) == 0 {
			delete(t.mu.peers, id)
			t.mu.routes.Forget(id)
			delete(t.mu.came, id)
		}
	}
	for id, addrs := range peers {
		if id == t.opt.Self {
			continue
		}
		for order, addr := range addrs {
			if t.mu.peers[id] == nil {
				t.mu.peers[id] = map[string]*path{}
			}
			if p := t.mu.peers[id][addr]; p != nil {
				p.order = order
				continue
			}
			p := newPath(t, id, addr, order)
			t.mu.peers[id][addr] = p
			t.wg.Add(1)
			go p.run()
		}
	}
}

// SetHosting says which generation of a witness lives here; 0 for none.
func (t *Transport) SetHosting(voter, generation uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.routes.SetHosting(voter, generation)
}

// Heard returns when each peer was last heard, over any path.
func (t *Transport) Heard() map[uint64]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.routes.Heard()
}

// Paths tells for each peer and address when it was last known that what is sent
// there arrives.
func (t *Transport) Paths() map[uint64]map[string]time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[uint64]map[string]time.Time{}
	for id, paths := range t.mu.peers {
		out[id] = map[string]time.Time{}
		for addr, p := range paths {
			out[id][addr] = p.lastHeard()
		}
	}
	return out
}

// Send sends messages of a voter on this node: of the node's own with
// generation 0, of the witness with its hosting generation.
func (t *Transport) Send(ms []*raftpb.Message, generation uint64) {
	for _, m := range ms {
		t.mu.Lock()
		gen := t.mu.routes.Generation(m.GetTo(), generation)
		targets, local := t.mu.routes.Targets(m.GetTo(), slices.Sorted(maps.Keys(t.mu.peers)))
		t.mu.Unlock()
		if local {
			t.opt.Deliver(proto.Clone(m).(*raftpb.Message), gen)
		}
		if len(targets) == 0 {
			continue
		}
		data, err := proto.Marshal(m)
		if err != nil {
			t.opt.Log.Error("raft message cannot be encoded", zap.Error(err))
			continue
		}
		f := t.frame()
		f.Message, f.Generation = data, gen
		f.Session, f.Number = t.session, t.numbers.Add(1)
		frame := encodeFrame(f)
		for _, id := range targets {
			t.send(id, frame)
		}
	}
}

// frame is what goes with every frame of this node.
func (t *Transport) frame() *consensuspb.Frame {
	f := &consensuspb.Frame{From: t.opt.Self, Incarnation: t.opt.Incarnation}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.mu.routes.Hosting() {
		f.Hosted = append(f.Hosted, &consensuspb.Hosted{Voter: h.Voter, Generation: h.Generation})
	}
	return f
}

// keepalive is a frame without a message, which the peer answers.
func (t *Transport) keepalive() []byte {
	f := t.frame()
	f.Ack = true
	return encodeFrame(f)
}

// send queues what is small on every path, and the rest on the first that is
// whole, or on all where none is known to be.
func (t *Transport) send(id uint64, frame []byte) {
	t.mu.Lock()
	paths := slices.SortedFunc(maps.Values(t.mu.peers[id]), func(a, b *path) int { return a.order - b.order })
	t.mu.Unlock()
	for _, p := range paths {
		if len(frame) > smallFrame && p.whole() && p.offer(frame) {
			return
		}
	}
	for _, p := range paths {
		p.offer(frame)
	}
}

// Serve reads a peer's frames from a connection until it ends. peer is the
// node that the connection's certificate names.
func (t *Transport) Serve(conn net.Conn, peer uint64) error {
	t.mu.Lock()
	if t.mu.closed {
		t.mu.Unlock()
		conn.Close()
		return ErrTransportClosed
	}
	t.mu.conns[conn] = struct{}{}
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.mu.conns, conn)
		t.mu.Unlock()
		conn.Close()
	}()
	in := frames{r: bufio.NewReaderSize(conn, batchedWrite)}
	for {
		_ = conn.SetReadDeadline(time.Now().Add(readTimeout))
		f, err := in.next()
		if err != nil {
			return err
		}
		if f.From != peer {
			return fmt.Errorf("node %d sends a frame in the name of node %d", peer, f.From)
		}
		if err := t.receive(f); err != nil {
			return err
		}
		if f.Ack {
			_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
			if _, err := conn.Write([]byte{1}); err != nil {
				return err
			}
		}
	}
}

func (t *Transport) receive(f *consensuspb.Frame) error {
	own := t.opt.Incarnation
	switch deliver, superseded := Incarnations(own, f.Incarnation); {
	case !deliver && !superseded:
		return fmt.Errorf("node %d is of incarnation %d of the cluster, and this is %d: quorum was forced since", f.From, f.Incarnation, own)
	case superseded:
		t.opt.Superseded(f.Incarnation)
		return fmt.Errorf("node %d is of incarnation %d of the cluster, and this node of %d: quorum was forced without it", f.From, f.Incarnation, own)
	}
	m := &raftpb.Message{}
	if err := proto.Unmarshal(f.Message, m); err != nil {
		return fmt.Errorf("node %d sends a damaged raft message: %w", f.From, err)
	}
	if !t.heard(f, m) || len(f.Message) == 0 {
		return nil
	}
	if m.GetFrom() < FirstWitness && m.GetFrom() != f.From {
		return fmt.Errorf("node %d sends a raft message in the name of voter %d", f.From, m.GetFrom())
	}
	if m.GetTo() != t.opt.Self && m.GetTo() < FirstWitness {
		return nil // of an address that was another node's before
	}
	t.opt.Deliver(m, f.Generation)
	return nil
}

// heard takes in what a frame says of its sender, and tells whether its message
// did not come over another path before.
func (t *Transport) heard(f *consensuspb.Frame, m *raftpb.Message) bool {
	var hosted []Hosted
	for _, h := range f.Hosted {
		hosted = append(hosted, Hosted{h.Voter, h.Generation})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.routes.Receive(time.Now(), f.From, hosted, m, f.Generation)
	w := t.mu.came[f.From]
	if w == nil {
		w = &window{}
		t.mu.came[f.From] = w
	}
	return w.first(f.Session, f.Number)
}

// Close ends all paths and connections and waits for the paths.
func (t *Transport) Close() {
	t.mu.Lock()
	t.mu.closed = true
	for c := range t.mu.conns {
		c.Close()
	}
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

// Host returns the other node that hosts a witness, as far as it is known, or 0.
func (t *Transport) Host(voter uint64) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.routes.Host(voter)
}
