package trust

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net/url"
)

// Authority is the cluster's certificate authority. Every member holds it, so
// that any of them can admit another.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a new cluster.
func NewAuthority(clusterID string) (*Authority, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	t, err := template("Quorate cluster " + clusterID)
	if err != nil {
		return nil, err
	}
	t.IsCA = true
	t.BasicConstraintsValid = true
	t.KeyUsage = x509.KeyUsageCertSign
	t.MaxPathLenZero = true
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Authority{cert: cert, key: key}, nil
}

// ParseAuthority reads an authority from its two PEM texts.
func ParseAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	cert, err := decodeCert(certPEM)
	if err != nil {
		return nil, fmt.Errorf("the authority's certificate: %w", err)
	}
	key, err := decodeKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("the authority's key: %w", err)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("the authority's key does not belong to its certificate")
	}
	return &Authority{cert: cert, key: key}, nil
}

// PEM returns certificate and key.
func (a *Authority) PEM() (cert, key []byte, err error) {
	key, err = encodeKey(a.key)
	return encodeCert(a.cert.Raw), key, err
}

// SignNode makes a node's certificate out of its signing request (PKCS #10 in
// DER). Only the request's public key is taken; the names are the cluster's.
func (a *Authority) SignNode(csr []byte, clusterID, name string, nodeID uint64) ([]byte, error) {
	req, err := x509.ParseCertificateRequest(csr)
	if err != nil {
		return nil, fmt.Errorf("the signing request of node %s: %w", name, err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the signing request of node %s: %w", name, err)
	}
	t, err := template(name)
	if err != nil {
		return nil, err
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	t.DNSNames = []string{name}
	t.URIs = []*url.URL{nodeURI(clusterID, nodeID)}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, req.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return encodeCert(der), nil
}

// SignAdmin makes an administrator's certificate with a key of its own, both PEM.
func (a *Authority) SignAdmin(clusterID, user string) (certPEM, keyPEM []byte, err error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	t, err := template(user)
	if err != nil {
		return nil, nil, err
	}
	t.NotAfter = t.NotBefore.Add(backdate + adminValidity)
	t.KeyUsage = x509.KeyUsageDigitalSignature
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	t.URIs = []*url.URL{adminURI(clusterID, user)}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err = encodeKey(key)
	return encodeCert(der), keyPEM, err
}
