package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a clusterd that answers as it was told to.
type fake struct {
	apipbconnect.UnimplementedClusterServiceHandler
	apipbconnect.UnimplementedNodeServiceHandler
	socket string

	mu    sync.Mutex
	err   error // what every call answers, if set
	stale bool  // no quorum: Status answers from a copy
	moved *apipb.MigrationUpdate
	check []*apipb.Check
	asked []string // every request, with what it says
	hang  bool     // calls do not answer
	// drained is how the drain of s1 stands, disarmed that the cluster is.
	drained  []*apipb.DrainInfo
	disarmed *apipb.DisarmInfo
}

// newFake starts one on a socket of its own.
func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{socket: filepath.Join(t.TempDir(), "s"), moved: moveDone, check: checks}
	mux := http.NewServeMux()
	opt := connect.WithInterceptors(f)
	mux.Handle(apipbconnect.NewClusterServiceHandler(f, opt))
	mux.Handle(apipbconnect.NewNodeServiceHandler(f, opt))
	l, err := net.Listen("unix", f.socket)
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: mux, Protocols: p}
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(l) })
	t.Cleanup(func() { s.Close(); served.Wait() })
	return f
}

// result is how a run of clusterctl ended.
type result struct {
	out, err string
	status   int
}

func (f *fake) run(t *testing.T, args ...string) result {
	t.Helper()
	return f.runWith(t.Context(), strings.NewReader(""), args...)
}

func (f *fake) runWith(ctx context.Context, in io.Reader, args ...string) result {
	var out, errs bytes.Buffer
	a := newApp(in, &out, &errs)
	a.zone = time.UTC
	a.now = func() time.Time { return time.UnixMilli(0) }
	status := a.execute(ctx, append([]string{"--socket", f.socket}, args...))
	return result{out.String(), errs.String(), status}
}

func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) answer(ctx context.Context, what any) error {
	f.mu.Lock()
	if m, ok := what.(proto.Message); ok {
		f.asked = append(f.asked, strings.TrimSpace(fmt.Sprintf("%s %v", m.ProtoReflect().Descriptor().Name(), m)))
	}
	err, hang := f.err, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

// WrapUnary implements connect.Interceptor.
func (f *fake) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		if err := f.answer(ctx, r.Any()); err != nil {
			return nil, err
		}
		return next(ctx, r)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (f *fake) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (f *fake) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, c connect.StreamingHandlerConn) error {
		if err := f.answer(ctx, nil); err != nil {
			return err
		}
		return next(ctx, c)
	}
}

// VmConsole greets, and echoes until it hears "bye".
func (f *fake) VmConsole(_ context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk]) error {
	return echo(s, "console of ")
}

// VmVnc greets, and echoes until it hears "bye".
func (f *fake) VmVnc(_ context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk]) error {
	return echo(s, "screen of ")
}

func echo(s *connect.BidiStream[apipb.Chunk, apipb.Chunk], greeting string) error {
	first, err := s.Receive()
	if err != nil {
		return err
	}
	if first.Name != "vWS08-SQL01" {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%q does not run", first.Name))
	}
	if err := s.Send(&apipb.Chunk{Data: []byte(greeting + first.Name + "\n")}); err != nil {
		return err
	}
	for {
		c, err := s.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Send(c); err != nil {
			return err
		}
		if bytes.Contains(c.Data, []byte("bye")) {
			return nil
		}
	}
}
