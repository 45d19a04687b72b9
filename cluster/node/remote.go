package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/trust"
)

const dialTimeout = 3 * time.Second

// remote is another node, or this one, as something to ask.
type remote struct {
	apipbconnect.NodeServiceClient
	name string
	addr string
}

// open opens the enrolment of a new node: by its line, or by the shared key
// where only its name or address is known.
func (n *Node) open(ctx context.Context, spec string) (*remote, error) {
	line := trust.Line{Name: spec, Address: spec}
	if trust.IsLine(spec) {
		var err error
		if line, err = trust.ParseLine(spec); err != nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, err)
		}
	} else {
		key, err := trust.LoadEnrollKey(n.opt.enrollKeyPath())
		if err != nil {
			return nil, err
		}
		if key == nil {
			return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(
				"%q is a bare name, and there is no shared key in %s: give the line that `clusterctl node enroll` prints on that node", spec, n.opt.enrollKeyPath()))
		}
		line.Secret = key
		if _, _, err := net.SplitHostPort(spec); err != nil {
			port, _ := n.opt.apiPort()
			line.Address = net.JoinHostPort(spec, strconv.Itoa(port))
		}
	}
	r, err := openEnrolment(ctx, line)
	if err != nil {
		return nil, fmt.Errorf("node %s at %s: %w", line.Name, line.Address, err)
	}
	return r, nil
}

// openEnrolment proves to the node that the secret is known, after it has proved
// the same.
func openEnrolment(ctx context.Context, line trust.Line) (*remote, error) {
	var seen string // the fingerprint that the node shows
	conf := trust.PinnedTLS(line.Fingerprint, alpnEnroll)
	check := conf.VerifyConnection
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if err := check(cs); err != nil {
			return err
		}
		got := trust.Fingerprint(cs.PeerCertificates[0].Raw)
		if seen != "" && seen != got {
			return errors.New("the node shows another certificate than before")
		}
		seen = got
		return nil
	}
	hc := &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", line.Address)
			if err != nil {
				return nil, fmt.Errorf("%w: is clusterd running there?", err)
			}
			c := tls.Client(raw, conf)
			if err := c.HandshakeContext(ctx); err != nil {
				raw.Close()
				return nil, err
			}
			return c, nil
		}, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
	}}
	url := "https://" + line.Address
	e := apipbconnect.NewEnrolmentServiceClient(hc, url)
	nonce, err := trust.NewSecret()
	if err != nil {
		return nil, err
	}
	ch, err := e.Challenge(ctx, connect.NewRequest(&apipb.ChallengeRequest{CreatorNonce: nonce}))
	if err != nil {
		return nil, err
	}
	want := trust.Proof(line.Secret, trust.NewNode, seen, nonce, ch.Msg.NodeNonce)
	if !trust.ProofValid(ch.Msg.SecretProof, want) && !trust.ProofValid(ch.Msg.KeyProof, want) {
		return nil, errors.New("it does not know the secret of the line, or the shared enrolment key: take a new line from `clusterctl node enroll` there, or lay down the same key on both")
	}
	op, err := e.Open(ctx, connect.NewRequest(&apipb.OpenRequest{
		NodeNonce: ch.Msg.NodeNonce, CreatorNonce: nonce, Proof: trust.Proof(line.Secret, trust.Creator, seen, nonce, ch.Msg.NodeNonce),
	}))
	if err != nil {
		return nil, err
	}
	return &remote{name: line.Name, addr: line.Address, NodeServiceClient: apipbconnect.NewNodeServiceClient(hc, url, connect.WithInterceptors(bearer(op.Msg.Token)))}, nil
}

// bearer adds a token to each request (RFC 6750).
func bearer(token string) connect.Interceptor {
	return connect.UnaryInterceptorFunc(func(next connect.UnaryFunc) connect.UnaryFunc {
		return func(ctx context.Context, r connect.AnyRequest) (connect.AnyResponse, error) {
			if r.Spec().IsClient {
				r.Header().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, r)
		}
	})
}

func tokenOf(h http.Header) string { return strings.TrimPrefix(h.Get("Authorization"), "Bearer ") }

// httpTo is the way to a member, over any of its addresses.
func (m *member) httpTo(id uint64) (*http.Client, string, error) {
	var addrs []string
	var name string
	m.db.view(func(s *pb.State) {
		if n := s.Nodes[id]; n != nil {
			name = n.Name
			addrs = cluster.Endpoints(s, n, n.ApiPort)
		}
	})
	if len(addrs) == 0 {
		return nil, "", connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no node %d", id))
	}
	t := &http.Transport{
		ForceAttemptHTTP2: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var errs []error
			for _, addr := range addrs {
				dctx, cancel := context.WithTimeout(ctx, dialTimeout)
				c, err := m.dial(dctx, id, addr, alpnHTTP2)
				cancel()
				if err == nil {
					return c, nil
				}
				errs = append(errs, err)
			}
			return nil, fmt.Errorf("reach %s: %w", name, errors.Join(errs...))
		},
	}
	return &http.Client{Transport: t}, "https://" + name, nil
}

// remoteTo is a member to ask.
func (m *member) remoteTo(id uint64) (*remote, func(), error) {
	hc, url, err := m.httpTo(id)
	if err != nil {
		return nil, nil, err
	}
	return &remote{NodeServiceClient: apipbconnect.NewNodeServiceClient(hc, url), name: strings.TrimPrefix(url, "https://")}, hc.CloseIdleConnections, nil
}
