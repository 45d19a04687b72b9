package node

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
)

// handlers are the API's.
type handlers struct{ n *Node }

func newHandlers(n *Node) *handlers { return &handlers{n: n} }

type (
	peerKey struct{}
	tlsKey  struct{}
)

// withPeer puts the member that a connection belongs to into its context.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	ctx = context.WithValue(ctx, tlsKey{}, true)
	conn, ok := c.(*tls.Conn)
	if !ok || len(conn.ConnectionState().PeerCertificates) == 0 {
		return ctx
	}
	_, id, err := trust.PeerNode(conn.ConnectionState().PeerCertificates[0])
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, id)
}

// overTLS tells a question of a node or of an administrator from one of root on
// this node.
func overTLS(ctx context.Context) bool {
	over, _ := ctx.Value(tlsKey{}).(bool)
	return over
}

// peerOf is the member that asks, or 0 for root on this node and administrators.
func peerOf(ctx context.Context) uint64 {
	id, _ := ctx.Value(peerKey{}).(uint64)
	return id
}

// forStrangers is what an unjoined node offers: the enrolment, and with a token
// of it what a node does by itself.
func (h *handlers) forStrangers() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewEnrolmentServiceHandler(h.n.enroll))
	path, node := apipbconnect.NewNodeServiceHandler(h, handlerOptions())
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h.n.enroll.authorised(tokenOf(r.Header)); err != nil {
			_ = connect.NewErrorWriter().Write(w, r, err)
			return
		}
		if r.URL.Path == apipbconnect.NodeServiceEnrollProcedure {
			_ = connect.NewErrorWriter().Write(w, r, connect.NewError(connect.CodePermissionDenied, errors.New("root on the node alone may see its enrolment line")))
			return
		}
		node.ServeHTTP(w, r)
	}))
	return mux
}

// forMembers is what members offer each other.
func (h *handlers) forMembers() http.Handler {
	mux := h.common()
	mux.Handle(keeperpbconnect.NewLeaseServiceHandler(memberLeases{h.n}))
	return mux
}

// forRoot is what the socket offers.
func (h *handlers) forRoot() http.Handler { return h.common() }

func (h *handlers) common() *http.ServeMux {
	mux := http.NewServeMux()
	opts := handlerOptions()
	mux.Handle(apipbconnect.NewNodeServiceHandler(h, opts))
	mux.Handle(apipbconnect.NewClusterServiceHandler(h, opts))
	return mux
}

// errUnjoined is what most commands answer on a node that is in no cluster.
var errUnjoined = connect.NewError(connect.CodeFailedPrecondition,
	errors.New("this node is in no cluster: create one with `clusterctl create`, or add the node with `clusterctl node add` on a member"))

func (h *handlers) member() (*member, error) {
	h.n.mu.Lock()
	defer h.n.mu.Unlock()
	switch {
	case h.n.member != nil:
		return h.n.member, nil
	case h.n.fault != nil:
		return nil, connect.NewError(connect.CodeUnavailable, h.n.fault)
	}
	return nil, errUnjoined
}

// codes gives errors of the cluster the codes by which tools tell them apart.
func codes(err error) error {
	var ce *connect.Error
	if err == nil {
		return nil
	} else if errors.As(err, &ce) {
		if _, whole := err.(*connect.Error); whole { //nolint:errorlint // is it wrapped?
			return err
		}
		// What was wrapped around it must not be lost.
		out := connect.NewError(ce.Code(), errors.New(strings.Replace(err.Error(), ce.Error(), ce.Message(), 1)))
		for _, d := range ce.Details() {
			out.AddDetail(d)
		}
		return out
	}
	var q *QuorumError
	if errors.As(err, &q) {
		ce = connect.NewError(connect.CodeUnavailable, err)
		if d, derr := connect.NewErrorDetail(&apipb.QuorumLost{Have: int32(q.Have), Needed: int32(q.Needed), Total: int32(q.Total)}); derr == nil {
			ce.AddDetail(d)
		}
		return ce
	}
	var r *RefusedError
	if errors.As(err, &r) {
		return connect.NewError(refusalCodes[r.Code], err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return connect.NewError(connect.CodeDeadlineExceeded, err)
	}
	return connect.NewError(connect.CodeUnknown, err)
}

// errorCodes is codes around every handler.
// compressFrom is from what size an answer is compressed, in bytes: less would cost
// more than it saves.
const compressFrom = 4 << 10

func handlerOptions() connect.HandlerOption {
	return connect.WithHandlerOptions(connect.WithInterceptors(errorCodes()), connect.WithCompressMinBytes(compressFrom))
}

func errorCodes() connect.Interceptor { return codesInterceptor{} }

type codesInterceptor struct{}

// WrapUnary implements connect.Interceptor.
func (codesInterceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, r)
		return res, codes(err)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (codesInterceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (codesInterceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error { return codes(next(ctx, conn)) }
}
