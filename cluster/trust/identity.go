package trust

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// The files of an identity directory.
const (
	keyFile       = "node.key"
	selfCertFile  = "self.crt"
	nodeCertFile  = "node.crt"
	caCertFile    = "ca.crt"
	caKeyFile     = "ca.key"
	gossipKeyFile = "gossip.key"
)

// Identity is a joined node's: who it is, and by what it knows the others.
type Identity struct {
	ClusterID string
	NodeID    uint64
	NodeName  string
	// GossipKey encrypts gossip: 32 bytes, AES-256.
	GossipKey []byte
	Authority *Authority

	cert tls.Certificate
	pool *x509.CertPool
}

// Bundle is what makes a node a member: handed to it once, over the enrolment
// connection. All fields are needed.
type Bundle struct {
	NodeCert, CACert, CAKey []byte // PEM
	GossipKey               []byte
}

// Self is the identity of a node before it is in a cluster.
type Self struct {
	dir  string
	key  *ecdsa.PrivateKey
	cert tls.Certificate
}

// OpenSelf reads the node's own key and self-signed certificate from dir, and
// makes them at the first start. name is the node's host name.
func OpenSelf(dir, name string) (*Self, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(dir, selfCertFile)); errors.Is(err, fs.ErrNotExist) {
		if err := createSelf(dir, name); err != nil {
			return nil, fmt.Errorf("make the node's identity in %s: %w", dir, err)
		}
	}
	keyText, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, err
	}
	key, err := decodeKey(keyText)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, keyFile), err)
	}
	certText, err := os.ReadFile(filepath.Join(dir, selfCertFile))
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, selfCertFile), err)
	}
	return &Self{dir: dir, key: key, cert: cert}, nil
}

func createSelf(dir, name string) error {
	key, err := newKey()
	if err != nil {
		return err
	}
	t, err := template(name)
	if err != nil {
		return err
	}
	t.DNSNames = []string{name}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	keyText, err := encodeKey(key)
	if err != nil {
		return err
	}
	// The certificate last: it says that the key is whole.
	if err := writeFile(filepath.Join(dir, keyFile), keyText); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, selfCertFile), encodeCert(der))
}

// Fingerprint is that of the self-signed certificate.
func (s *Self) Fingerprint() string { return Fingerprint(s.cert.Certificate[0]) }

// Request is a signing request (PKCS #10, DER) for the node's key.
func (s *Self) Request() ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "quorate node"},
	}, s.key)
}

// ServerTLS is the configuration that an unjoined node listens with.
func (s *Self) ServerTLS(alpn ...string) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{s.cert}, NextProtos: alpn}
}

// Join stores what makes the node a member. The node's certificate is written
// last: without it the node is still unjoined, whatever else is there.
func (s *Self) Join(b Bundle) (*Identity, error) {
	if len(b.GossipKey) != 32 {
		return nil, fmt.Errorf("the gossip key has %d bytes, want 32", len(b.GossipKey))
	}
	keyText, err := encodeKey(s.key)
	if err != nil {
		return nil, err
	}
	if _, err := newIdentity(b, keyText); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		data []byte
	}{{caCertFile, b.CACert}, {caKeyFile, b.CAKey}, {gossipKeyFile, b.GossipKey}, {nodeCertFile, b.NodeCert}} {
		if err := writeFile(filepath.Join(s.dir, f.name), f.data); err != nil {
			return nil, err
		}
	}
	return Load(s.dir)
}

// Leave makes the node unjoined again.
func (s *Self) Leave() error {
	for _, name := range []string{nodeCertFile, caKeyFile, caCertFile, gossipKeyFile} {
		if err := os.Remove(filepath.Join(s.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Load reads a joined node's identity, or returns ErrUnjoined.
func Load(dir string) (*Identity, error) {
	var b Bundle
	var err error
	if b.NodeCert, err = os.ReadFile(filepath.Join(dir, nodeCertFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrUnjoined
	} else if err != nil {
		return nil, err
	}
	var keyText []byte
	for _, f := range []struct {
		name string
		into *[]byte
	}{{keyFile, &keyText}, {caCertFile, &b.CACert}, {caKeyFile, &b.CAKey}, {gossipKeyFile, &b.GossipKey}} {
		if *f.into, err = os.ReadFile(filepath.Join(dir, f.name)); err != nil {
			return nil, err
		}
	}
	id, err := newIdentity(b, keyText)
	if err != nil {
		return nil, fmt.Errorf("the identity in %s: %w", dir, err)
	}
	return id, nil
}

func newIdentity(b Bundle, keyText []byte) (*Identity, error) {
	authority, err := ParseAuthority(b.CACert, b.CAKey)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(b.NodeCert, keyText)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	leaf, err := decodeCert(b.NodeCert)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	id := &Identity{Authority: authority, GossipKey: b.GossipKey, cert: cert, pool: x509.NewCertPool(), NodeName: leaf.Subject.CommonName}
	id.pool.AddCert(authority.cert)
	if id.ClusterID, id.NodeID, err = PeerNode(leaf); err != nil {
		return nil, err
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: id.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	return id, nil
}

// ServerTLS is for listeners: clients must show a certificate of the cluster.
func (id *Identity) ServerTLS(alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}, NextProtos: alpn,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: id.pool,
		VerifyConnection: func(cs tls.ConnectionState) error { return id.check(cs, 0) },
	}
}

// APIServerTLS is ServerTLS for a port that also serves administrators: they may
// speak the protocols of the API, and only nodes the others.
func (id *Identity) APIServerTLS(api []string, internal ...string) *tls.Config {
	conf := id.ServerTLS(append(slices.Clone(api), internal...)...)
	conf.VerifyConnection = func(cs tls.ConnectionState) error {
		if slices.Contains(api, cs.NegotiatedProtocol) && id.checkAdmin(cs) == nil {
			return nil
		}
		return id.check(cs, 0)
	}
	return conf
}

// checkAdmin verifies that the other side is an administrator of this cluster.
func (id *Identity) checkAdmin(cs tls.ConnectionState) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the other side shows no certificate")
	}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: id.pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return err
	}
	clusterID, _, err := PeerAdmin(leaf)
	if err == nil && clusterID != id.ClusterID {
		err = fmt.Errorf("the administrator is of cluster %s, not of %s", clusterID, id.ClusterID)
	}
	return err
}

// ClientTLS is for connections to the node serverNodeID, or to any node of the
// cluster where it is 0.
func (id *Identity) ClientTLS(serverNodeID uint64, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{id.cert}, NextProtos: alpn, RootCAs: id.pool,
		// The server is known by its URI, not by a host name: crypto/tls
		// would ask for a host name, so check verifies the chain itself.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return id.check(cs, serverNodeID) },
	}
}

// check verifies the other side's chain, that it is of this cluster, and which
// node it is.
func (id *Identity) check(cs tls.ConnectionState, want uint64) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the other side shows no certificate")
	}
	opts := x509.VerifyOptions{Roots: id.pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
	leaf := cs.PeerCertificates[0]
	if _, err := leaf.Verify(opts); err != nil {
		return fmt.Errorf("the certificate %q is not of cluster %s: %w", leaf.Subject.CommonName, id.ClusterID, err)
	}
	clusterID, nodeID, err := PeerNode(leaf)
	if err != nil {
		return err
	}
	if clusterID != id.ClusterID {
		return fmt.Errorf("node %d is of cluster %s, not of %s", nodeID, clusterID, id.ClusterID)
	}
	if want != 0 && nodeID != want {
		return fmt.Errorf("node %d answers where node %d was expected", nodeID, want)
	}
	return nil
}

// PinnedTLS is for a connection to an unjoined node, which is known by the
// fingerprint of its self-signed certificate. With none given, any is taken, and
// the enrolment's proof must bind it (see Proof).
func PinnedTLS(fingerprint string, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: slices.Clone(alpn),
		InsecureSkipVerify: true, // pinned below
		VerifyConnection: func(cs tls.ConnectionState) error {
			got := Fingerprint(cs.PeerCertificates[0].Raw)
			if fingerprint != "" && got != fingerprint {
				return fmt.Errorf("the node shows the certificate %.16s…, but its enrolment line names %.16s…: "+
					"take a new line from `clusterctl node enroll` on that node, over a way that nobody can tamper with", got, fingerprint)
			}
			return nil
		},
	}
}
