package client_test

import (
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	"quorate/cluster/client"
	"quorate/cluster/trust"
)

// nodeOf is a node of a new cluster, and the file of its administrator.
func nodeOf(t *testing.T, id string) (*trust.Identity, client.Config) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	a, err := trust.NewAuthority(id)
	check(err)
	self, err := trust.OpenSelf(filepath.Join(t.TempDir(), "identity"), "s1")
	check(err)
	csr, err := self.Request()
	check(err)
	cert, err := a.SignNode(csr, id, "s1", 1)
	check(err)
	ca, key, err := a.PEM()
	check(err)
	node, err := self.Join(trust.Bundle{NodeCert: cert, CACert: ca, CAKey: key, GossipKey: make([]byte, 32)})
	check(err)
	adminCert, adminKey, err := a.SignAdmin(id, "anna")
	check(err)
	return node, client.Config{Cluster: id, CA: string(ca), Certificate: string(adminCert), Key: string(adminKey)}
}

// serving is a node's API; it returns its address.
func serving(t *testing.T, node *trust.Identity) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(apipbconnect.NewClusterServiceHandler(server{}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf := node.APIServerTLS([]string{"h2", "http/1.1"}, "raft")
	s := &http.Server{Handler: mux, TLSConfig: conf, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = s.ServeTLS(l, "", "") }()
	t.Cleanup(func() { s.Close(); <-done })
	return l.Addr().String()
}

func TestAdministratorReachesHisCluster(t *testing.T) {
	node, config := nodeOf(t, "c1")
	stranger, _ := nodeOf(t, "c2")
	config.Address = serving(t, node)
	c, err := client.Remote(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	both(t, c)
	// Without an address the first node that answers will do.
	config.Nodes, config.Address = []string{"127.0.0.1:1", config.Address}, ""
	c2, err := client.Remote(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c2.Close()
	both(t, c2)
	// What answers at that address may be another cluster.
	config.Address = serving(t, stranger)
	c3, err := client.Remote(config)
	if err != nil {
		t.Fatal(err)
	}
	defer c3.Close()
	if _, err := c3.Cluster.Version(t.Context(), connect.NewRequest(&apipb.VersionRequest{})); err == nil || !strings.Contains(err.Error(), "not of this cluster") {
		t.Fatalf("%v", err)
	}
}

func TestConfigIsFoundByNameAndAddress(t *testing.T) {
	dir := t.TempDir()
	for name, address := range map[string]string{"a": "192.0.2.1:7400", "b": "[2001:db8::1]:7400", "c": ""} {
		text, err := client.Config{Cluster: name, Address: address, Nodes: []string{"192.0.2.9:7400"}}.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for by, want := range map[string]string{"a": "a", "192.0.2.1": "a", "192.0.2.1:7400": "a", "2001:db8::1": "b", "c": "c"} {
		if got, err := client.FindConfig(dir, by); err != nil || got.Cluster != want {
			t.Errorf("%s: %v, %v", by, got.Cluster, err)
		}
	}
	if _, err := client.FindConfig(dir, "d"); !errors.Is(err, client.ErrNoConfig) {
		t.Errorf("%v", err)
	}
	if err := os.Chmod(filepath.Join(dir, "a.yaml"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := client.FindConfig(dir, "a"); err == nil || !strings.Contains(err.Error(), "others may read it") {
		t.Errorf("%v", err)
	}
}
