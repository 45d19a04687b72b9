package keeper

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
	"quorate/disk"
)

var background = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	const limit = time.Minute // for a machine that is busy with other tests
	for end := time.Now().Add(limit); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("did not come about in %v: %s", limit, what)
		}
	}
}

// leader answers for the lease, as clusterd would.
type leader struct {
	mu      sync.Mutex
	silent  map[uint64]bool // nodes that get no answer
	refused map[uint64]bool
	asked   map[uint64]int
	lease   int64    // milliseconds
	addrs   []string // that it names as its own
}

func (l *leader) Renew(ctx context.Context, r *connect.Request[keeperpb.RenewRequest]) (*connect.Response[keeperpb.RenewResponse], error) {
	l.mu.Lock()
	silent, refused, addrs := l.silent[r.Msg.NodeId], l.refused[r.Msg.NodeId], l.addrs
	l.asked[r.Msg.NodeId]++
	l.mu.Unlock()
	if silent {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if refused {
		return connect.NewResponse(&keeperpb.RenewResponse{Reason: "no quorum"}), nil
	}
	return connect.NewResponse(&keeperpb.RenewResponse{Granted: true, AgeMs: 10, LeaseMs: l.lease, LeaderAddrs: addrs}), nil
}

func (l *leader) set(m map[uint64]bool, node uint64, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m[node] = on
}

// Timing of the tests' leases, in milliseconds.
const (
	leaseMs     = 600
	heartbeatMs = 50
)

// rig is a cluster of keepers with one LUN.
type rig struct {
	t      *testing.T
	base   string
	auth   *trust.Authority
	lun    *disk.Memory
	leader *leader
	peer   string // the leader's address
	nodes  map[uint64]*testNode
	url    string // of a real LUN, where there is one
	suffix string // of initiator names
}

type testNode struct {
	*Keeper
	id   uint64
	path string

	polled bool
	api    keeperpbconnect.KeeperServiceClient
	kills  func()              // called by Kill
	hook   func(disk.Op) error // before and after each operation on the LUN
	mu     sync.Mutex
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		t.Skip("needs /dev/fuse (kernel module fuse)")
	}
	auth, err := trust.NewAuthority("cluster1")
	must(t, err)
	r := &rig{
		t: t, base: t.TempDir(), auth: auth, lun: disk.NewMemory(256<<20, 512), nodes: map[uint64]*testNode{},
		leader: &leader{silent: map[uint64]bool{}, refused: map[uint64]bool{}, asked: map[uint64]int{}, lease: leaseMs},
	}
	id := r.identity(9)
	mux := http.NewServeMux()
	mux.Handle(keeperpbconnect.NewLeaseServiceHandler(r.leader))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := &http.Server{Handler: mux, ErrorLog: zap.NewStdLog(zap.NewNop())}
	go func() { _ = s.Serve(tls.NewListener(l, id.ServerTLS("http/1.1"))) }()
	t.Cleanup(func() { _ = s.Close() })
	r.peer = l.Addr().String()
	return r
}

// identity joins a node.
func (r *rig) identity(node uint64) *trust.Identity {
	r.t.Helper()
	dir := filepath.Join(r.base, fmt.Sprint(node), "state", "identity")
	name := fmt.Sprintf("s%d", node)
	self, err := trust.OpenSelf(dir, name)
	must(r.t, err)
	csr, err := self.Request()
	must(r.t, err)
	cert, err := r.auth.SignNode(csr, "cluster1", name, node)
	must(r.t, err)
	ca, key, err := r.auth.PEM()
	must(r.t, err)
	id, err := self.Join(trust.Bundle{NodeCert: cert, CACert: ca, CAKey: key, GossipKey: make([]byte, 32)})
	must(r.t, err)
	return id
}

// start runs a keeper that has joined, and configures it.
func (r *rig) start(node, epoch uint64) *testNode {
	r.t.Helper()
	n := &testNode{id: node, kills: func() {}, hook: func(disk.Op) error { return nil }}
	r.identity(node)
	dir := filepath.Join(r.base, fmt.Sprint(node))
	o := DefaultOptions(fmt.Sprintf("s%d", node), zaptest.NewLogger(r.t, zaptest.Level(zap.InfoLevel)).Named(fmt.Sprint(node)))
	o.StateDir, o.RunDir, o.StorageDir = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "storage")
	o.Listen = "127.0.0.1:0"
	o.InitiatorName += r.suffix
	if r.url == "" {
		r.overMemory(n, &o)
	}
	o.Kill = func() int { n.kills(); return 0 }
	k, err := New(o)
	must(r.t, err)
	n.Keeper = k
	must(r.t, k.Start(background))
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(background, 10*time.Second)
		defer cancel()
		if err := k.Stop(ctx); err != nil {
			r.t.Logf("stop node %d: %v", node, err)
		}
	})
	n.api = keeperpbconnect.NewKeeperServiceClient(keeperpb.SocketClient(filepath.Join(o.RunDir, SocketName)), "http://noded")
	r.nodes[node] = n
	n.configure(r, epoch)
	waitFor(r.t, "active", func() bool { return n.state2().State == string(active) })
	return n
}

// overMemory lets a node reach the LUN in memory by a nexus of its own.
func (r *rig) overMemory(n *testNode, o *Options) {
	o.OpenLUN = func(_ context.Context, _ *keeperpb.Lun, purpose string) (disk.LUN, error) {
		lun := r.lun.Nexus(fmt.Sprintf("%d/%s/%p", n.id, purpose, n))
		return disk.NewFaulty(lun, func(op disk.Op) error {
			n.mu.Lock()
			hook := n.hook
			n.mu.Unlock()
			return hook(op)
		}), nil
	}
}

func (n *testNode) configure(r *rig, epoch uint64) {
	r.t.Helper()
	n.polled, n.path = false, ""
	_, err := n.api.Configure(background, connect.NewRequest(&keeperpb.ConfigureRequest{
		ClusterId: "cluster1", NodeId: n.id, NodeName: fmt.Sprintf("s%d", n.id), NodeEpoch: epoch,
		LeasePeers: []string{"127.0.0.1:1", r.peer}, LeaseMs: r.leader.lease, HeartbeatMs: heartbeatMs,
	}))
	must(r.t, err)
}

func (n *testNode) state2() *keeperpb.StatusResponse {
	s, err := n.api.Status(background, connect.NewRequest(&keeperpb.StatusRequest{}))
	if err != nil {
		return &keeperpb.StatusResponse{}
	}
	return s.Msg
}

func (n *testNode) addr() string {
	n.Keeper.mu.Lock()
	defer n.Keeper.mu.Unlock()
	return n.tcp.Addr().String()
}

func (n *testNode) onLUN(hook func(disk.Op) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hook = hook
}

// at names the LUN.
func (r *rig) at() *keeperpb.Lun {
	if r.url != "" {
		return &keeperpb.Lun{Url: r.url}
	}
	return &keeperpb.Lun{Url: "memory:"}
}

func (r *rig) format(n *testNode) {
	r.t.Helper()
	_, err := n.api.Format(background, connect.NewRequest(&keeperpb.FormatRequest{Lun: r.at(), Volume: "Volume1", ClusterId: "cluster1"}))
	must(r.t, err)
}

// attach attaches the volume with key and coordinator.
func (r *rig) attach(n *testNode, key uint64, coord *testNode, epoch uint64) string {
	r.t.Helper()
	resp, err := n.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{
		Volume: "Volume1", Lun: r.at(), Key: key, Epoch: epoch,
		Coordinator: &keeperpb.Coordinator{NodeId: coord.id, Addrs: []string{coord.addr()}},
	}))
	must(r.t, err)
	n.path = resp.Msg.Path
	return resp.Msg.Path
}

func (r *rig) coordinate(n *testNode, epoch uint64, evicted ...uint64) {
	r.t.Helper()
	_, err := n.api.Coordinate(background, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: "Volume1", Epoch: epoch, Evicted: evicted}))
	must(r.t, err)
	for _, n := range r.nodes {
		n.poll(r)
	}
}

// poll makes a new mount safe for the tests' own process.
func (n *testNode) poll(r *rig) {
	if n.path != "" && !n.polled {
		n.polled = true
		pollOnce(r.t, n.path)
	}
}

// pollOnce makes the kernel learn that files on a mount cannot be polled. Go's
// runtime polls what it opens, and a process that serves the mount itself, as tests
// do, could wait for its own answer.
func pollOnce(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	_ = unix.Close(fd)
}
