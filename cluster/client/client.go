// Package client is the Go client of clusterd's API: how a tool reaches a node,
// and what an error of the API means to who runs the tool.
//
// It owns the connection, over a node's socket or over TLS, and the exit
// statuses that scripts may rely on, and the file by which an administrator
// reaches a cluster from elsewhere. cmd/clusterctl calls it, and so may any Go
// program. It never prints, or ends the process.
//
// Traps: the console and VNC of a machine are bidirectional streams and need
// HTTP/2, which the transports here speak and http.DefaultClient does not
// without TLS; over the socket, what is no stream goes by HTTP/1.1, which costs
// both sides a third less; a Client is safe for concurrent use, but Close does not wait for
// calls under way, which the caller ends by their context.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"time"

	"quorate/cluster"
	"quorate/cluster/api/apipb/apipbconnect"
)

// DefaultSocket is where clusterd listens for root on its node.
const DefaultSocket = "/run/quorate/clusterd.sock"

const (
	dialTimeout = 5 * time.Second
	// A peer that hangs with its connections open is noticed by these two.
	pingAfter   = 15 * time.Second
	pingTimeout = 15 * time.Second
)

// Client reaches one node.
type Client struct {
	Cluster   apipbconnect.ClusterServiceClient
	Node      apipbconnect.NodeServiceClient
	Enrolment apipbconnect.EnrolmentServiceClient

	transports []*http.Transport
}

// Local reaches the node that this process runs on, through its unix socket,
// which root alone may use. An empty path is DefaultSocket. It does not connect
// yet: that a node does not answer shows at the first call.
func Local(socket string) *Client {
	if socket == "" {
		socket = DefaultSocket
	}
	rt := newSocket(func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "unix", socket)
	})
	return over(rt, "http://clusterd", rt.calls, rt.streams)
}

// TLS reaches the node at addr, host:port. The configuration holds the caller's
// certificate and the authority by which the node is known.
func TLS(addr string, config *tls.Config) *Client { return tlsTo([]string{addr}, config) }

// tlsTo is TLS to the first of several addresses that answers.
func tlsTo(addrs []string, config *tls.Config) *Client {
	t := newTransport()
	t.Protocols.SetHTTP2(true)
	t.TLSClientConfig = config
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, addr := range addrs {
			c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, addr)
			if err == nil {
				return c, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return over(t, "https://"+addrs[0], t)
}

func newTransport() *http.Transport {
	return &http.Transport{
		Protocols: new(http.Protocols),
		HTTP2:     &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

func over(rt http.RoundTripper, url string, transports ...*http.Transport) *Client {
	h := &http.Client{Transport: rt}
	return &Client{
		Cluster:   apipbconnect.NewClusterServiceClient(h, url),
		Node:      apipbconnect.NewNodeServiceClient(h, url),
		Enrolment: apipbconnect.NewEnrolmentServiceClient(h, url),

		transports: transports,
	}
}

// Close ends the idle connections.
func (c *Client) Close() {
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// Version is the version of this build.
func Version() string { return cluster.Version }
