package keeper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
	"quorate/csv/coordinator"
	"quorate/csv/csvpb"
)

// SocketName is the socket's name below the run directory.
const SocketName = "noded.sock"

// handshakeTimeout bounds the TLS handshake of a client that connects.
const handshakeTimeout = 5 * time.Second

// serveSocket serves clusterd on the same node. Root alone may connect.
func (k *Keeper) serveSocket() error {
	path := filepath.Join(k.o.RunDir, SocketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = l.Close()
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(keeperpbconnect.NewKeeperServiceHandler(service{k}))
	k.socket = &http.Server{Handler: mux, ReadHeaderTimeout: handshakeTimeout}
	k.work.Go(func() {
		if err := k.socket.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			k.log.Error("the socket is closed", zap.Error(err))
		}
	})
	return nil
}

// listen takes connections of other nodes' clients.
func (k *Keeper) listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: keepAlive, Control: userTimeout}
	l, err := lc.Listen(ctx, "tcp", k.o.Listen)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.id == nil {
			return nil, trust.ErrUnjoined
		}
		return k.id.ServerTLS(csvpb.ALPN), nil
	}}
	k.work.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				k.log.Warn("accept", zap.Error(err))
				select {
				case <-ctx.Done():
					return
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			k.work.Go(func() { k.accept(ctx, tls.Server(conn, conf)) })
		}
	})
	return l, nil
}

// accept serves one connection: it must be the node that its hello names.
func (k *Keeper) accept(ctx context.Context, conn *tls.Conn) {
	hctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := conn.HandshakeContext(hctx); err != nil {
		k.log.Debug("handshake", zap.String("from", conn.RemoteAddr().String()), zap.Error(err))
		_ = conn.Close()
		return
	}
	_, node, err := trust.PeerNode(conn.ConnectionState().PeerCertificates[0])
	if err != nil {
		_ = conn.Close()
		return
	}
	k.serveVolume(ctx, conn, node)
}

// serveVolume hands a connection to the coordinator of the volume that it asks for.
func (k *Keeper) serveVolume(ctx context.Context, conn net.Conn, node uint64) {
	h, err := coordinator.ReadHello(conn)
	if err != nil {
		_ = conn.Close()
		return
	}
	if h.Node != node {
		coordinator.Refuse(conn, fmt.Errorf("node %d says that it is node %d", node, h.Node))
		return
	}
	k.mu.Lock()
	a := k.volumes[h.Volume]
	k.mu.Unlock()
	var c *coordinator.Coordinator
	if a != nil {
		c = a.coordinating()
	}
	if c == nil {
		coordinator.Refuse(conn, fmt.Errorf("volume %q is not coordinated here (yet)", h.Volume))
		return
	}
	c.Serve(ctx, conn, h)
}

// coordinatorName is how a coordinator is named towards the client:
// node@host:port,host:port with an address on each network.
func coordinatorName(c *keeperpb.Coordinator) string {
	return fmt.Sprintf("%d@%s", c.NodeId, strings.Join(c.Addrs, ","))
}

// dialTimeout bounds one address, so that a network that is cut does not keep
// the others from being tried.
const dialTimeout = time.Second

// dial connects to a coordinator: within the process where it is on this node.
func (k *Keeper) dial(ctx context.Context, addr string) (net.Conn, error) {
	num, hostports, _ := strings.Cut(addr, "@")
	node, err := strconv.ParseUint(num, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("coordinator %q: %w", addr, err)
	}
	k.mu.Lock()
	id, conf, run, stopping := k.id, k.conf, k.ctx, k.stopping
	k.mu.Unlock()
	if conf == nil || id == nil {
		return nil, errors.New("this node is in no cluster")
	}
	if node == conf.NodeID {
		if stopping {
			return nil, errors.New("noded stops")
		}
		here, there := net.Pipe()
		go k.serveVolume(run, there, node)
		return here, nil
	}
	d := tls.Dialer{NetDialer: &net.Dialer{KeepAliveConfig: keepAlive, Control: userTimeout}, Config: id.ClientTLS(node, csvpb.ALPN)}
	var errs []error
	for hostport := range strings.SplitSeq(hostports, ",") {
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := d.DialContext(dctx, "tcp", hostport)
		cancel()
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// keepAlive finds dead connections within a few seconds.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}

// unansweredLimit is how long what was sent may go without an acknowledgement, in
// milliseconds.
const unansweredLimit = 4000

// userTimeout sets TCP_USER_TIMEOUT: keep-alives are not sent while data waits.
func userTimeout(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, unansweredLimit)
	}); cerr != nil {
		return cerr
	}
	return err
}

// unmountStaleLocked removes mounts below the storage directory that a noded before
// this one has left, and that this one does not go on with.
func (k *Keeper) unmountStaleLocked() {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 || filepath.Dir(f[1]) != filepath.Clean(k.o.StorageDir) {
			continue
		}
		if a := k.volumes[filepath.Base(f[1])]; a != nil && a.path == f[1] {
			continue
		}
		flags := syscall.MNT_DETACH
		if f[2] == "fuse.quorate" { // nobody answers there; of a directory that is bound there others may have a use
			flags |= syscall.MNT_FORCE
		}
		if err := syscall.Unmount(f[1], flags); err != nil {
			k.log.Warn("an old mount is left", zap.String("path", f[1]), zap.Error(err))
		}
	}
}
