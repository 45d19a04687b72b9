package mount_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/coordinator"
	"quorate/csv/mount"
	"quorate/csv/volume"
	"quorate/disk"
)

// rig is a volume with nodes in one process.
type rig struct {
	t    testing.TB
	log  *zap.Logger
	open func(node string) disk.Device

	mu    sync.Mutex
	coord *coordinator.Coordinator
	epoch uint64
	cut   map[csv.NodeID]bool // nodes that cannot reach the coordinator
	lost  map[csv.NodeID]bool // nodes that cannot reach the LUN

	supplanted func(node string) error // ends a node's session
	resetting  atomic.Int32            // resets that were begun
	nodes      map[csv.NodeID]*node
	base       string
}

type node struct {
	*client.Client
	m    *mount.Mount
	dir  string
	conn net.Conn
}

var background = context.Background()

// memoryLUN is a LUN of which each node has a nexus of its own.
func memoryLUN(size int64) func(string) disk.Device {
	m := disk.NewMemory(size, 512)
	return func(node string) disk.Device { return m.Nexus(node) }
}

func newRig(t testing.TB, open func(string) disk.Device) *rig {
	t.Helper()
	r := &rig{
		t: t, log: zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)), open: open,
		base: t.TempDir(), cut: map[csv.NodeID]bool{}, lost: map[csv.NodeID]bool{}, nodes: map[csv.NodeID]*node{},
	}
	_, err := volume.Format(background, open("format"), volume.FormatOptions{UUID: volume.UUID{7}, Name: "Volume1", Cluster: "c", Now: 1})
	if err != nil {
		t.Fatal(err)
	}
	r.coordinate()
	t.Cleanup(r.stop)
	return r
}

// coordinate starts the next coordinator, over an own nexus.
func (r *rig) coordinate(evicted ...csv.NodeID) {
	r.t.Helper()
	r.mu.Lock()
	r.epoch++
	epoch := r.epoch
	r.mu.Unlock()
	c, err := coordinator.New(background, coordinator.Options{
		Device: r.open("coordinator"), Epoch: epoch, Now: time.Now, Log: r.log, Evicted: evicted,
		Reset: r.reset, Supplant: r.supplant,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	r.coord = c
	r.mu.Unlock()
	for _, n := range r.nodes {
		n.SetCoordinator("coordinator", epoch)
	}
}

// reset ends what is under way on the LUN.
func (r *rig) reset(ctx context.Context) error {
	r.resetting.Add(1)
	l, ok := r.open("coordinator").(disk.LUN)
	if !ok {
		return nil
	}
	err := l.ResetUnit(ctx)
	_ = l.ReadAt(ctx, make([]byte, 4096), 0) // a gate would take the unit attention
	return err
}

// supplant ends a node's session: its name is what the client was given.
func (r *rig) supplant(_ context.Context, session []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.supplanted == nil {
		return errors.New("this test has no sessions")
	}
	return r.supplanted(string(session))
}

func (r *rig) dial(n csv.NodeID) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		r.mu.Lock()
		c, cut := r.coord, r.cut[n]
		r.mu.Unlock()
		if c == nil || cut {
			return nil, os.ErrDeadlineExceeded
		}
		a, b := net.Pipe()
		go func() {
			h, err := coordinator.ReadHello(b)
			if err != nil {
				_ = b.Close()
				return
			}
			c.Serve(background, b, h)
		}()
		r.mu.Lock()
		if nd := r.nodes[n]; nd != nil {
			nd.conn = a
		}
		r.mu.Unlock()
		return a, nil
	}
}

func name(n csv.NodeID) string { return fmt.Sprintf("node%d", n) }

func (r *rig) reachable(n csv.NodeID) func() bool {
	return func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return !r.lost[n]
	}
}

func (r *rig) lose(n csv.NodeID, lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost[n] = lost
}

// client attaches a node without a mount.
func (r *rig) client(n csv.NodeID) *node {
	r.t.Helper()
	return r.clientOn(n, r.open(name(n)))
}

func (r *rig) clientOn(n csv.NodeID, dev disk.Device) *node {
	r.t.Helper()
	return r.process(n, dev, uint64(time.Now().UnixNano()), nil, nil)
}

// process is one process of a node's incarnation. What keep has is left by those before
// it; left is nil where there was none.
func (r *rig) process(n csv.NodeID, dev disk.Device, incarnation uint64, keep client.Keep, left *client.Resumed) *node {
	r.t.Helper()
	c, err := client.New(client.Options{
		Volume: "Volume1", Node: n, Incarnation: incarnation, Device: dev, Keep: keep, Resumed: left,
		Reachable: r.reachable(n), Session: []byte(name(n)), Dial: r.dial(n), Now: time.Now, Log: r.log.Named(string(rune('0' + n))),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	nd := &node{Client: c}
	r.mu.Lock()
	r.nodes[n] = nd
	r.mu.Unlock()
	c.SetCoordinator("coordinator", r.epoch)
	return nd
}

// mount attaches a node and mounts the volume.
func (r *rig) mount(n csv.NodeID) *node {
	r.t.Helper()
	if os.Geteuid() != 0 {
		r.t.Skip("needs root, to mount")
	}
	if _, err := os.Stat("/dev/fuse"); err != nil {
		r.t.Skip("needs /dev/fuse (kernel module fuse)")
	}
	nd := r.client(n)
	nd.dir = filepath.Join(r.base, fmt.Sprint(n), "Volume1")
	m, err := mount.New(mount.Options{Path: nd.dir, Name: "Volume1", Volume: nd.Client, Log: r.log})
	if err != nil {
		r.t.Fatal(err)
	}
	nd.m = m
	pollOnce(r.t, nd.dir)
	return nd
}

// pollOnce makes the kernel learn that files on a mount cannot be polled. Go's
// runtime polls what it opens, and a process that serves the mount itself, as tests
// do, could wait for its own answer.
func pollOnce(t testing.TB, dir string) {
	t.Helper()
	fd, err := unix.Open(filepath.Join(dir, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	_ = unix.Close(fd)
}

func (r *rig) stop() {
	ctx, cancel := context.WithTimeout(background, 10*time.Second)
	defer cancel()
	for _, n := range r.nodes {
		if n.m != nil {
			if err := n.m.Unmount(ctx, false); err != nil {
				r.t.Error(err)
				n.Abort()
				_ = n.m.Unmount(ctx, true)
			}
		}
		_ = n.Close(ctx)
	}
	if r.coord != nil {
		if err := r.coord.Relinquish(ctx); err != nil {
			r.t.Error(err)
		}
	}
}
