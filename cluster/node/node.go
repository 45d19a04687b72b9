package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb/apipbconnect"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
	"quorate/csv/volume"
	"quorate/disk/san"
)

// Node is a running clusterd.
type Node struct {
	opt  Options
	log  *zap.Logger
	self *trust.Self
	san  *san.San

	srv     *server
	http    []*http.Server
	enroll  *enrolment
	handler *handlers
	cpu     processors
	cleanup []func() // run last to first by Stop
	stopped sync.Once

	mu sync.Mutex
	// member is set once this node has joined.
	member *member
	// fault says why a node that has joined has no part in its cluster now.
	fault error
	// ended is closed by Stop.
	ended chan struct{}
}

// New checks the options.
func New(opt Options) (*Node, error) {
	opt.EnsureDefaults()
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("clusterd's options: %w", err)
	}
	return &Node{opt: opt, log: opt.Log, ended: make(chan struct{})}, nil
}

// Start begins to listen and, where the node is a member, to be one. What it has
// begun when it fails is ended again.
func (n *Node) Start() (err error) {
	defer func() {
		if err != nil {
			n.Stop()
		}
	}()
	for _, dir := range []string{n.opt.StateDir, n.opt.RunDir, n.opt.machinesDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if n.self, err = trust.OpenSelf(n.opt.identityDir(), n.opt.Name); err != nil {
		return err
	}
	key, err := trust.LoadEnrollKey(n.opt.enrollKeyPath())
	if err != nil {
		return err
	}
	if n.san, err = san.Open(san.Options{StateDir: n.opt.StateDir, EtcDir: n.opt.EtcDir, Holds: volume.Foreign, Log: n.log.Named("san")}); err != nil {
		return err
	}
	n.cleanup = append(n.cleanup, func() { n.san.Close() })
	if n.enroll, err = newEnrolment(n.self, key); err != nil {
		return err
	}
	n.handler = newHandlers(n)
	id, err := trust.Load(n.opt.identityDir())
	switch {
	case errors.Is(err, trust.ErrUnjoined):
		n.log.Info("this node is in no cluster: enrol it with `clusterctl node enroll`")
	case err != nil:
		return err
	default:
		err := n.become(id, nil)
		if errors.Is(err, cluster.ErrTooNew) { // and says so to whoever asks
			n.log.Error("this node cannot take part in its cluster; its machines run on", zap.Error(err))
			n.fault, err = err, nil
		}
		if err != nil {
			return err
		}
		n.enroll.close(fmt.Sprintf("node %s is in cluster %s already", n.opt.Name, id.ClusterID))
	}
	return n.listen()
}

func (n *Node) listen() error {
	l, err := net.Listen("tcp", n.opt.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", n.opt.Listen, err)
	}
	n.srv = newServer(l, &tls.Config{GetConfigForClient: n.tlsConfig, MinVersion: tls.VersionTLS13}, n.log, n.serveStream)
	strangers := tlsHTTP(n.handler.forStrangers())
	members := tlsHTTP(n.handler.forMembers())
	root := plainHTTP(n.handler.forRoot())
	members.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return withPeer(ctx, c) }
	sock, err := unixListener(n.opt.socketPath())
	if err != nil {
		l.Close()
		return err
	}
	for _, s := range []struct {
		h *http.Server
		l net.Listener
	}{{strangers, n.srv.queue(alpnEnroll)}, {members, n.srv.queue(alpnHTTP2, alpnHTTP1)}, {root, sock}} {
		if s.h.ErrorLog, err = zap.NewStdLogAt(n.log.Named("http"), zap.WarnLevel); err != nil {
			return err
		}
		n.http = append(n.http, s.h)
		go func() { _ = s.h.Serve(s.l) }()
	}
	n.srv.run()
	n.log.Info("clusterd runs", zap.String("listen", n.opt.Listen), zap.String("socket", n.opt.socketPath()))
	return nil
}

// tlsConfig picks the identity by what the client wants: strangers enrol with
// the self-signed certificate, members show theirs.
func (n *Node) tlsConfig(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	if offers(hello, alpnEnroll) {
		return n.self.ServerTLS(alpnEnroll), nil
	}
	m := n.current()
	if m == nil {
		return nil, trust.ErrUnjoined
	}
	conf := m.id.APIServerTLS([]string{alpnHTTP2, alpnHTTP1}, alpnRaft, alpnMigrate)
	conf.DynamicRecordSizingDisabled = true // migrations send large records alone
	return conf, nil
}

// serveStream takes a connection over that is not HTTP.
func (n *Node) serveStream(proto string, conn *tls.Conn) {
	m := n.current()
	_, peer, err := trust.PeerNode(conn.ConnectionState().PeerCertificates[0])
	if m == nil || err != nil {
		_ = conn.Close()
		return
	}
	switch proto {
	case alpnRaft:
		if err := m.transport.Serve(conn, peer); err != nil {
			n.log.Debug("raft connection ended", zap.Uint64("peer", peer), zap.Error(err))
		}
	case alpnMigrate:
		m.moves.server.Accept(conn)
	default:
		_ = conn.Close()
	}
}

// current is the membership, or nil.
func (n *Node) current() *member {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.member
}

// keeper is noded's API on this node.
func (n *Node) keeper() keeperpbconnect.KeeperServiceClient {
	return keeperpbconnect.NewKeeperServiceClient(keeperHTTP(n.opt.keeperSocket()), "http://noded")
}

// Stop ends everything, in the reverse order. It may be called twice.
func (n *Node) Stop() {
	n.stopped.Do(func() {
		close(n.ended)
		// Leadership first, so that nobody has to find out.
		if m := n.current(); m != nil {
			m.handOver()
		}
		for _, h := range n.http {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			if h.Shutdown(ctx) != nil {
				_ = h.Close()
			}
			cancel()
		}
		if m := n.current(); m != nil {
			m.stop()
		}
		if n.srv != nil {
			n.srv.close()
		}
		for i := len(n.cleanup) - 1; i >= 0; i-- {
			n.cleanup[i]()
		}
		_ = os.Remove(filepath.Join(n.opt.RunDir, "clusterd.sock"))
	})
}

var _ apipbconnect.NodeServiceHandler = (*handlers)(nil)
