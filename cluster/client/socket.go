package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// maxIdle is how many connections to the socket are kept between calls.
const maxIdle = 16

// streamPrefix is that of the content types of Connect's streams.
const streamPrefix = "application/connect+"

// socket carries streams by HTTP/2 and plain calls by HTTP/1.1, which costs both
// sides a third less. HTTP/1.1 knows no ping: while a call waits for long, the
// other transport is asked whether anybody is there.
type socket struct {
	calls, streams *http.Transport
	// after is how long a call waits before that, and between two times; the
	// answer must come within timeout.
	after, timeout time.Duration
}

func newSocket(dial func(context.Context) (net.Conn, error)) *socket {
	s := &socket{calls: newTransport(), streams: newTransport(), after: pingAfter, timeout: pingTimeout}
	s.calls.Protocols.SetHTTP1(true)
	s.calls.MaxIdleConnsPerHost = maxIdle
	s.streams.Protocols.SetUnencryptedHTTP2(true)
	for _, t := range []*http.Transport{s.calls, s.streams} {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	return s
}

// RoundTrip implements http.RoundTripper.
func (s *socket) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), streamPrefix) {
		return s.streams.RoundTrip(r)
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	end := func() { cancel(nil) }
	answered := make(chan struct{})
	watch := time.AfterFunc(s.after, func() { s.watch(ctx, r, answered, cancel) })
	res, err := s.calls.RoundTrip(r.WithContext(ctx))
	watch.Stop()
	close(answered)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && r.Context().Err() == nil {
			err = cause
		}
		end()
		return nil, err
	}
	res.Body = watchedBody{res.Body, end}
	return res, nil
}

// watch ends a call by fail once nobody is there, until it is answered.
func (s *socket) watch(ctx context.Context, r *http.Request, answered <-chan struct{}, fail context.CancelCauseFunc) {
	for {
		err := s.ping(ctx, r)
		select {
		case <-answered:
			return
		case <-ctx.Done():
			return
		default:
		}
		if err != nil {
			fail(err)
			return
		}
		select {
		case <-answered:
			return
		case <-ctx.Done():
			return
		case <-time.After(s.after):
		}
	}
}

// ping asks for a page that need not be there.
func (s *socket) ping(ctx context.Context, r *http.Request) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodHead, r.URL.Scheme+"://"+r.URL.Host, nil)
	if err != nil {
		return err
	}
	res, err := s.streams.RoundTrip(ask)
	if err != nil {
		return fmt.Errorf("no sign of life within %v", s.after+s.timeout) // and no deadline of the caller's
	}
	return res.Body.Close()
}

// watchedBody ends the context of its call when it has been read.
type watchedBody struct {
	io.ReadCloser
	end func()
}

// Close implements io.Closer.
func (b watchedBody) Close() error {
	defer b.end()
	return b.ReadCloser.Close()
}
