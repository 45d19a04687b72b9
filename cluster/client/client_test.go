package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/goleak"

	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	"quorate/cluster/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type server struct {
	apipbconnect.UnimplementedClusterServiceHandler
	err error
}

func (s server) Version(context.Context, *connect.Request[apipb.VersionRequest]) (*connect.Response[apipb.VersionResponse], error) {
	return connect.NewResponse(&apipb.VersionResponse{Version: "0.1"}), s.err
}

func (server) VmConsole(_ context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk]) error {
	for {
		c, err := s.Receive()
		if err != nil {
			return nil
		}
		if err := s.Send(c); err != nil {
			return err
		}
	}
}

// both asks once and talks both ways.
func both(t *testing.T, c *client.Client) {
	t.Helper()
	res, err := c.Cluster.Version(t.Context(), connect.NewRequest(&apipb.VersionRequest{}))
	if err != nil || res.Msg.Version != "0.1" {
		t.Fatalf("%v, %v", res, err)
	}
	s := c.Cluster.VmConsole(t.Context())
	for i := range 3 {
		text := fmt.Sprint("piece ", i)
		if err := s.Send(&apipb.Chunk{Data: []byte(text)}); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Receive(); err != nil || string(got.Data) != text {
			t.Fatalf("%v, %v, want %q", got, err, text)
		}
	}
	if err := errors.Join(s.CloseRequest(), s.CloseResponse()); err != nil {
		t.Error(err)
	}
}

func onSocket(t *testing.T, s server) *client.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewClusterServiceHandler(s))
	h := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
	h.Protocols.SetHTTP1(true)
	h.Protocols.SetUnencryptedHTTP2(true)
	var served sync.WaitGroup
	served.Go(func() { _ = h.Serve(l) })
	c := client.Local(path)
	t.Cleanup(func() { c.Close(); h.Close(); served.Wait() })
	return c
}

func TestLocal(t *testing.T) { both(t, onSocket(t, server{})) }

func TestTLS(t *testing.T) {
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewClusterServiceHandler(server{}))
	s := httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	config := s.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos = nil
	c := client.TLS(s.Listener.Addr().String(), config)
	defer c.Close()
	both(t, c)
}

func TestTLSOfAStrangerIsRefused(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.EnableHTTP2 = true
	s.Config.ErrorLog = nil
	s.StartTLS()
	defer s.Close()
	c := client.TLS(s.Listener.Addr().String(), nil)
	defer c.Close()
	_, err := c.Cluster.Version(t.Context(), connect.NewRequest(&apipb.VersionRequest{}))
	if code, text := client.Explain(err); code != client.ExitFailed || !strings.Contains(text, "certificate") {
		t.Errorf("%d, %q", code, text)
	}
}

func TestExplain(t *testing.T) {
	lost := connect.NewError(connect.CodeUnavailable, errors.New("no leader"))
	d, err := connect.NewErrorDetail(&apipb.QuorumLost{Have: 1, Needed: 2, Total: 3})
	if err != nil {
		t.Fatal(err)
	}
	lost.AddDetail(d)
	over := func(err error) error {
		_, err = onSocket(t, server{err: err}).Cluster.Version(t.Context(), connect.NewRequest(&apipb.VersionRequest{}))
		return err
	}
	late, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	_, timeout := onSocket(t, server{}).Cluster.Version(late, connect.NewRequest(&apipb.VersionRequest{}))
	_, absent := client.Local(filepath.Join(t.TempDir(), "none")).Cluster.Version(t.Context(), connect.NewRequest(&apipb.VersionRequest{}))
	for name, c := range map[string]struct {
		err  error
		code int
		text string
	}{
		"nothing":     {nil, 0, ""},
		"usage":       {over(connect.NewError(connect.CodeInvalidArgument, errors.New("bad name"))), 2, "bad name"},
		"absent":      {over(connect.NewError(connect.CodeNotFound, errors.New("no node"))), 3, "no node"},
		"refused":     {over(connect.NewError(connect.CodeFailedPrecondition, errors.New("in use"))), 4, "in use"},
		"wrapped":     {fmt.Errorf("move it: %w", over(connect.NewError(connect.CodePermissionDenied, errors.New("not yours")))), 4, "move it: not yours"},
		"quorum":      {over(lost), 5, "no quorum: 1 vote, 2 of 3 needed; see `clusterctl status` for what is missing, and bring it back"},
		"unavailable": {over(connect.NewError(connect.CodeUnavailable, errors.New("clusterd stops"))), 1, "clusterd stops"},
		"waited":      {over(connect.NewError(connect.CodeDeadlineExceeded, errors.New("waited 90 s"))), 7, "waited 90 s"},
		"timeout":     {timeout, 7, "timed out before the answer came"},
		"deadline":    {context.DeadlineExceeded, 7, "timed out before the answer came"},
		"interrupted": {context.Canceled, 1, "interrupted"},
		"other":       {errors.New("disk full"), 1, "disk full"},
		"not running": {absent, 1, "clusterd does not run on this node, its socket does not exist: start it with `systemctl start clusterd`"},
	} {
		if code, text := client.Explain(c.err); code != c.code || !strings.HasPrefix(text, c.text) {
			t.Errorf("%s: %d, %q; want %d, %q", name, code, text, c.code, c.text)
		}
	}
}
