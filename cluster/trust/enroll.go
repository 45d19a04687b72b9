package trust

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// linePrefix begins every enrolment line and carries its version.
const linePrefix = "quorate1"

// SecretSize is the size of a one-time secret and of an enrolment key, in bytes.
const SecretSize = 32

// Line is what an unjoined node hands to a cluster's creator.
type Line struct {
	Name        string
	Address     string // host:port of its clusterd
	Fingerprint string // of its self-signed certificate
	Secret      []byte // SecretSize bytes, good for one joining
}

// String is the one line to copy.
func (l Line) String() string {
	return strings.Join([]string{linePrefix, l.Name, l.Address, l.Fingerprint, base64.RawURLEncoding.EncodeToString(l.Secret)}, ",")
}

// IsLine tells an enrolment line from a bare name or address.
func IsLine(s string) bool { return strings.Contains(s, ",") }

// ParseLine reads an enrolment line.
func ParseLine(s string) (Line, error) {
	parts := strings.Split(strings.TrimSpace(s), ",")
	if len(parts) != 5 || parts[0] != linePrefix {
		return Line{}, fmt.Errorf("%.40q is not an enrolment line: copy the whole line that `clusterctl node enroll` printed on the new node", s)
	}
	l := Line{Name: parts[1], Address: parts[2], Fingerprint: parts[3]}
	var err error
	if l.Secret, err = base64.RawURLEncoding.DecodeString(parts[4]); err != nil || len(l.Secret) != SecretSize {
		return Line{}, fmt.Errorf("the enrolment line of %s has a damaged secret: copy the whole line again", l.Name)
	}
	if l.Name == "" || l.Address == "" || len(l.Fingerprint) != 64 {
		return Line{}, fmt.Errorf("the enrolment line %.40q lacks a name, an address or a fingerprint: copy the whole line again", s)
	}
	return l, nil
}

// NewSecret draws a one-time secret, a gossip key or a nonce.
func NewSecret() ([]byte, error) {
	b := make([]byte, SecretSize)
	_, err := rand.Read(b)
	return b, err
}

// LoadEnrollKey reads a shared enrolment key: base64 of SecretSize bytes or
// more. It returns nil without an error where there is no such file.
func LoadEnrollKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s may be read by others (mode %04o): chmod 600 it, and lay down a new key if others had access", path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("%s is not base64: make one with `head -c 32 /dev/urandom | base64`", path)
	}
	if len(key) < SecretSize {
		return nil, fmt.Errorf("%s holds %d bytes, want at least %d: make one with `head -c 32 /dev/urandom | base64`", path, len(key), SecretSize)
	}
	return key, nil
}

// Side is who makes a proof: a proof of one side is no proof of the other.
type Side string

// The two sides of an enrolment.
const (
	Creator Side = "creator"
	NewNode Side = "new node"
)

// Proof shows that its maker knows secret, on the connection whose server
// showed fingerprint, for this pair of nonces. Whoever sits between the two has
// another fingerprint, and so no valid proof.
func Proof(secret []byte, side Side, fingerprint string, creatorNonce, nodeNonce []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "quorate enrolment 1\x00%s\x00%s\x00", side, fingerprint)
	for _, n := range [][]byte{creatorNonce, nodeNonce} {
		fmt.Fprintf(mac, "%d:", len(n))
		mac.Write(n)
	}
	return mac.Sum(nil)
}

// ProofValid compares in constant time.
func ProofValid(got, want []byte) bool { return subtle.ConstantTimeCompare(got, want) == 1 }
