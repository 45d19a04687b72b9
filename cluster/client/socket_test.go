package client

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// slow answers calls when it is let, and everything else at once; it notes by
// which protocol it is asked.
type slow struct {
	mu     sync.Mutex
	protos map[string]string // by path
	let    chan struct{}
}

func (s *slow) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.protos[r.URL.Path] = r.Proto
	s.mu.Unlock()
	if r.URL.Path == "/call" {
		<-s.let
	}
}

func ask(ctx context.Context, rt http.RoundTripper, path, kind string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://clusterd"+path, strings.NewReader("x"))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", kind)
	res, err := (&http.Client{Transport: rt}).Do(r)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// TestAHungPeerIsNoticedAndASlowOneWaitedFor: a call may take its time while the
// other side gives signs of life, and ends where it gives none.
func TestAHungPeerIsNoticedAndASlowOneWaitedFor(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &slow{protos: map[string]string{}, let: make(chan struct{})}
	srv := &http.Server{Handler: h, Protocols: new(http.Protocols)}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	var served sync.WaitGroup
	served.Go(func() { _ = srv.Serve(l) })
	defer served.Wait()
	defer srv.Close()
	s := newSocket(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", l.Addr().String())
	})
	defer s.calls.CloseIdleConnections()
	defer s.streams.CloseIdleConnections()
	s.after = time.Millisecond
	slowly := make(chan error)
	go func() { slowly <- ask(t.Context(), s, "/call", "application/proto") }()
	pinged := func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.protos["/call"] == "HTTP/1.1" && h.protos["/"] == "HTTP/2.0"
	}
	for end := time.Now().Add(10 * time.Second); !pinged(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("asked by %v", h.protos)
		}
	}
	close(h.let)
	if err := <-slowly; err != nil {
		t.Errorf("a slow call: %v", err)
	}
	if err := ask(t.Context(), s, "/stream", streamPrefix+"proto"); err != nil || h.protos["/stream"] != "HTTP/2.0" {
		t.Errorf("a stream: %v, by %s", err, h.protos["/stream"])
	}

	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hung := newSocket(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", silent.Addr().String())
	})
	hung.after, hung.timeout = time.Millisecond, time.Millisecond
	if err := ask(t.Context(), hung, "/call", "application/proto"); err == nil || !strings.Contains(err.Error(), "no sign of life within 2ms") {
		t.Errorf("a peer that hangs: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(gone, hung, "/call", "application/proto"); err == nil || strings.Contains(err.Error(), "sign of life") {
		t.Errorf("a call that was given up: %v", err)
	}
}
