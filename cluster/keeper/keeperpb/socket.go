package keeperpb

import (
	"context"
	"net"
	"net/http"
)

// SocketClient returns an HTTP client whose every request goes to a unix socket,
// for NewKeeperServiceClient(SocketClient(path), "http://noded").
func SocketClient(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 4,
	}}
}
