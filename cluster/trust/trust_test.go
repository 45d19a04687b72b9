package trust

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func joined(t *testing.T, a *Authority, clusterID, name string, id uint64) *Identity {
	t.Helper()
	self, err := OpenSelf(filepath.Join(t.TempDir(), "identity"), name)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := self.Request()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.SignNode(csr, clusterID, name, id)
	if err != nil {
		t.Fatal(err)
	}
	caCert, caKey, err := a.PEM()
	if err != nil {
		t.Fatal(err)
	}
	gossip, err := NewSecret()
	if err != nil {
		t.Fatal(err)
	}
	ident, err := self.Join(Bundle{NodeCert: cert, CACert: caCert, CAKey: caKey, GossipKey: gossip})
	if err != nil {
		t.Fatal(err)
	}
	return ident
}

// handshake is over a connection with buffers: over a pipe a side that refuses
// waits for ever for the other to listen.
func handshake(server, client *tls.Config) (serverErr, clientErr error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err, err
	}
	defer l.Close()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return err, err
	}
	defer b.Close()
	a, err := l.Accept()
	if err != nil {
		return err, err
	}
	defer a.Close()
	done := make(chan error, 1)
	go func() {
		c := tls.Server(a, server)
		err := c.Handshake()
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	c := tls.Client(b, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	if clientErr != nil {
		b.Close()
	}
	return <-done, clientErr
}

func TestOnlyMembersOfOneClusterTalk(t *testing.T) {
	a, err := NewAuthority("c1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := NewAuthority("c1")
	if err != nil {
		t.Fatal(err)
	}
	s1, s2 := joined(t, a, "c1", "s1", 1), joined(t, a, "c1", "s2", 2)
	stranger := joined(t, other, "c1", "s3", 3)
	foreign := joined(t, a, "c2", "s4", 4)

	if se, ce := handshake(s1.ServerTLS("p"), s2.ClientTLS(1, "p")); se != nil || ce != nil {
		t.Fatalf("members: %v, %v", se, ce)
	}
	for name, c := range map[string]struct{ server, client *tls.Config }{
		"another node answers":   {s1.ServerTLS("p"), s2.ClientTLS(7, "p")},
		"another authority":      {s1.ServerTLS("p"), stranger.ClientTLS(1, "p")},
		"another cluster's node": {s1.ServerTLS("p"), foreign.ClientTLS(0, "p")},
		"no certificate":         {s1.ServerTLS("p"), PinnedTLS("", "p")},
	} {
		if se, ce := handshake(c.server, c.client); se == nil && ce == nil {
			t.Errorf("%s: was let in", name)
		}
	}
}

func TestPinnedCertificate(t *testing.T) {
	self, err := OpenSelf(t.TempDir(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenSelf(self.dir, "s1")
	if err != nil || again.Fingerprint() != self.Fingerprint() {
		t.Fatalf("a second start has another identity: %v", err)
	}
	if se, ce := handshake(self.ServerTLS("p"), PinnedTLS(self.Fingerprint(), "p")); se != nil || ce != nil {
		t.Fatalf("right fingerprint: %v, %v", se, ce)
	}
	_, ce := handshake(self.ServerTLS("p"), PinnedTLS(strings.Repeat("0", 64), "p"))
	if ce == nil || !strings.Contains(ce.Error(), "enrolment line names") {
		t.Fatalf("wrong fingerprint: %v", ce)
	}
}

func TestUnjoined(t *testing.T) {
	dir := t.TempDir()
	if _, err := OpenSelf(dir, "s1"); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); !errors.Is(err, ErrUnjoined) {
		t.Fatalf("got %v", err)
	}
}

func TestLine(t *testing.T) {
	secret, _ := NewSecret()
	l := Line{Name: "s1", Address: "192.168.100.11:7400", Fingerprint: strings.Repeat("ab", 32), Secret: secret}
	got, err := ParseLine(l.String())
	if err != nil || got.String() != l.String() {
		t.Fatalf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "s1", "quorate1,,,,", l.String()[:60], strings.Replace(l.String(), "quorate1", "quorate9", 1), l.String() + "AAAA"} {
		if _, err := ParseLine(bad); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

func TestProofBindsSideAndConnection(t *testing.T) {
	secret, _ := NewSecret()
	p := Proof(secret, Creator, "f1", []byte("a"), []byte("b"))
	if !ProofValid(p, Proof(secret, Creator, "f1", []byte("a"), []byte("b"))) {
		t.Fatal("not repeatable")
	}
	for _, q := range [][]byte{
		Proof(secret, NewNode, "f1", []byte("a"), []byte("b")),
		Proof(secret, Creator, "f2", []byte("a"), []byte("b")),
		Proof(secret, Creator, "f1", []byte("ab"), nil),
		Proof(append([]byte{1}, secret...), Creator, "f1", []byte("a"), []byte("b")),
	} {
		if ProofValid(p, q) {
			t.Error("another proof passes")
		}
	}
}

func TestEnrollKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enroll.key")
	if k, err := LoadEnrollKey(path); k != nil || err != nil {
		t.Fatalf("absent: %v, %v", k, err)
	}
	for text, mode := range map[string]os.FileMode{"c2hvcnQ=": 0o600, "not base64!": 0o600, strings.Repeat("A", 44): 0o644} {
		os.Remove(path)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadEnrollKey(path); err == nil {
			t.Errorf("took %q with mode %o", text, mode)
		}
	}
}

// TestAdministratorsMayUseTheAPIAlone: not what nodes say to each other, not noded,
// not another cluster, and nobody takes one for a node.
func TestAdministratorsMayUseTheAPIAlone(t *testing.T) {
	a, err := NewAuthority("c1")
	if err != nil {
		t.Fatal(err)
	}
	node := joined(t, a, "c1", "s1", 1)
	admin := func(a *Authority, clusterID string) tls.Certificate {
		certPEM, keyPEM, err := a.SignAdmin(clusterID, "anna")
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	b, err := NewAuthority("c2")
	if err != nil {
		t.Fatal(err)
	}
	try := func(server *tls.Config, cert tls.Certificate, proto string) error {
		s, c := handshake(server, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, NextProtos: []string{proto}, InsecureSkipVerify: true})
		return errors.Join(s, c)
	}
	api := node.APIServerTLS([]string{"h2"}, "raft")
	if err := try(api, admin(a, "c1"), "h2"); err != nil {
		t.Errorf("the API refuses an administrator: %v", err)
	}
	for name, err := range map[string]error{
		"raft":                    try(api, admin(a, "c1"), "raft"),
		"noded":                   try(node.ServerTLS("volumes"), admin(a, "c1"), "volumes"),
		"of another cluster":      try(api, admin(b, "c2"), "h2"),
		"of another cluster's id": try(api, admin(a, "c2"), "h2"),
	} {
		if err == nil {
			t.Errorf("an administrator gets in: %s", name)
		}
	}
	s, c := handshake(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{admin(a, "c1")}, NextProtos: []string{"h2"}}, node.ClientTLS(0, "h2"))
	if s == nil && c == nil {
		t.Error("an administrator is taken for a node")
	}
	if s, c := handshake(api, node.ClientTLS(1, "raft")); s != nil || c != nil {
		t.Errorf("a node is refused: %v, %v", s, c)
	}
}
