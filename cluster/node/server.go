package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Protocols on the one TLS port, told apart by ALPN (RFC 7301).
const (
	alpnRaft    = "quorate-raft"
	alpnMigrate = "quorate-migration"
	alpnEnroll  = "quorate-enroll"
	alpnHTTP2   = "h2"
	alpnHTTP1   = "http/1.1"
)

const (
	handshakeTimeout = 5 * time.Second
	// maxHandshakes bounds connections that have not yet shown who they are.
	maxHandshakes = 128
)

// server accepts on the TLS port and hands each connection to whom it is for.
type server struct {
	log     *zap.Logger
	l       net.Listener
	config  *tls.Config
	handle  func(proto string, conn *tls.Conn) // takes the connection over
	http    map[string]*queueListener          // by protocol
	wg      sync.WaitGroup
	pending chan struct{}
	mu      sync.Mutex
	open    map[net.Conn]struct{} // in handshake
	closed  bool
}

func newServer(l net.Listener, config *tls.Config, log *zap.Logger, handle func(string, *tls.Conn)) *server {
	return &server{
		log: log, l: l, config: config, handle: handle, http: map[string]*queueListener{},
		pending: make(chan struct{}, maxHandshakes), open: map[net.Conn]struct{}{},
	}
}

// queue returns a listener for the connections of the given protocols.
func (s *server) queue(protos ...string) net.Listener {
	q := &queueListener{addr: s.l.Addr(), conns: make(chan net.Conn), done: make(chan struct{})}
	for _, p := range protos {
		s.http[p] = q
	}
	return q
}

func (s *server) run() {
	s.wg.Go(func() {
		for {
			conn, err := s.l.Accept()
			if err != nil {
				if errors.Is(err, net.ErrClosed) {
					return
				}
				s.log.Warn("accept", zap.Error(err))
				time.Sleep(50 * time.Millisecond) // out of descriptors: others must end first
				continue
			}
			select {
			case s.pending <- struct{}{}:
				s.wg.Go(func() { s.shake(conn) })
			default:
				conn.Close()
			}
		}
	})
}

func (s *server) shake(raw net.Conn) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		raw.Close()
		<-s.pending
		return
	}
	s.open[raw] = struct{}{}
	s.mu.Unlock()
	conn := tls.Server(raw, s.config)
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	err := conn.HandshakeContext(ctx)
	cancel()
	s.mu.Lock()
	delete(s.open, raw)
	s.mu.Unlock()
	<-s.pending
	if err != nil {
		s.log.Debug("a connection was refused", zap.Stringer("from", raw.RemoteAddr()), zap.Error(err))
		raw.Close()
		return
	}
	proto := conn.ConnectionState().NegotiatedProtocol
	if q := s.http[proto]; q != nil {
		if proto == alpnEnroll {
			// http.Server closes TLS connections of protocols that it does not
			// know; as a plain one it speaks HTTP/1.1 over it.
			q.put(struct{ net.Conn }{conn})
			return
		}
		q.put(conn)
		return
	}
	s.handle(proto, conn)
}

func (s *server) close() {
	s.l.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.open {
		c.Close()
	}
	s.mu.Unlock()
	for _, q := range s.http {
		_ = q.Close()
	}
	s.wg.Wait()
}

// queueListener gives connections to an http.Server that were accepted elsewhere.
type queueListener struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (q *queueListener) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (q *queueListener) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queueListener) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queueListener) Addr() net.Addr { return q.addr }

// unixListener makes the socket that root alone may use.
func unixListener(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// plainHTTP serves HTTP/1 and HTTP/2 without TLS, for the socket.
func plainHTTP(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: p, ReadHeaderTimeout: handshakeTimeout}
}

// tlsHTTP serves connections that have shaken hands.
func tlsHTTP(h http.Handler) *http.Server {
	return &http.Server{Handler: h, TLSConfig: &tls.Config{NextProtos: []string{alpnHTTP2, alpnHTTP1}}, ReadHeaderTimeout: handshakeTimeout}
}

func offers(hello *tls.ClientHelloInfo, proto string) bool {
	return slices.Contains(hello.SupportedProtos, proto)
}
