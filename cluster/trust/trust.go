// Package trust is the cluster's certificate authority, the identity of its
// nodes, and the enrolment by which a new node comes to have one.
//
// Every node has one key of its own, made at its first start. Unjoined, it
// shows a certificate that it signed itself and that its enrolment line pins;
// joined, one that the cluster's authority signed, in which a URI names cluster
// and node: quorate://CLUSTER/node/ID. All traffic between nodes is TLS 1.3 with
// certificates on both sides, and both check that URI. An administrator has a
// certificate for clients alone, quorate://CLUSTER/admin/USER, with which he may
// use the API and nothing else.
//
// It is called by cluster/node and the daemons. It opens no connection and
// decides nothing about the cluster: it makes configurations for crypto/tls.
//
// Traps: a certificate proves which node speaks, not that it is still a member;
// whoever acts on a message asks the database for that.
package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ErrUnjoined is returned by Load for a node that is in no cluster.
var ErrUnjoined = errors.New("this node is in no cluster")

// validity is how long certificates are good for. There is no renewal yet, so
// it outlives the hardware.
const validity = 20 * 365 * 24 * time.Hour

// adminValidity is how long an administrator's certificate is good for: there is
// no way yet to take one back.
const adminValidity = 365 * 24 * time.Hour

// backdate allows for clocks of nodes that differ.
const backdate = 24 * time.Hour

// Fingerprint is the SHA-256 of a certificate in DER, in hexadecimal.
func Fingerprint(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func newKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

func serial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// nodeURI names a node in its certificate.
func nodeURI(clusterID string, nodeID uint64) *url.URL {
	return &url.URL{Scheme: "quorate", Host: clusterID, Path: "/node/" + strconv.FormatUint(nodeID, 10)}
}

// PeerNode reads cluster and node out of a verified certificate.
func PeerNode(cert *x509.Certificate) (clusterID string, nodeID uint64, err error) {
	for _, u := range cert.URIs {
		if u.Scheme != "quorate" {
			continue
		}
		id, err := strconv.ParseUint(strings.TrimPrefix(u.Path, "/node/"), 10, 64)
		if err != nil || id == 0 {
			return "", 0, fmt.Errorf("certificate %q names no node in %q", cert.Subject.CommonName, u)
		}
		return u.Host, id, nil
	}
	return "", 0, fmt.Errorf("certificate %q is not a node's: it has no quorate:// name", cert.Subject.CommonName)
}

// adminURI names an administrator in his certificate.
func adminURI(clusterID, user string) *url.URL {
	return &url.URL{Scheme: "quorate", Host: clusterID, Path: "/admin/" + user}
}

// PeerAdmin reads cluster and user out of a verified certificate.
func PeerAdmin(cert *x509.Certificate) (clusterID, user string, err error) {
	for _, u := range cert.URIs {
		if name, is := strings.CutPrefix(u.Path, "/admin/"); is && u.Scheme == "quorate" && name != "" {
			return u.Host, name, nil
		}
	}
	return "", "", fmt.Errorf("certificate %q is not an administrator's", cert.Subject.CommonName)
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func decodeKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block with a private key")
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("private key is %T, want ECDSA", k)
	}
	return key, nil
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func decodeCert(text []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block with a certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

// writeFile replaces a file whole, readable by its owner alone, and durably.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func template(commonName string) (*x509.Certificate, error) {
	n, err := serial()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: n,
		Subject:      pkix.Name{CommonName: commonName},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
	}, nil
}
