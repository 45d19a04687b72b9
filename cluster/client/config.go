package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Config is what an administrator needs to reach a cluster from anywhere: where it
// is, by what it is known, and who he is. It holds a private key.
type Config struct {
	Cluster string `yaml:"cluster"` // its name
	// Address is the cluster's own, host:port; empty where it has none.
	Address string `yaml:"address,omitempty"`
	// Nodes are tried in turn where the cluster has no address.
	Nodes       []string `yaml:"nodes"`
	CA          string   `yaml:"ca"`
	Certificate string   `yaml:"certificate"`
	Key         string   `yaml:"key"`
}

// ErrNoConfig says that there is no file for a cluster.
var ErrNoConfig = errors.New("no configuration for this cluster")

// ConfigDir is where the files of clusters lie, one for each, NAME.yaml.
func ConfigDir() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "quorate"), nil
}

// FindConfig returns the configuration of the cluster of this name or address, by
// the files in dir.
func FindConfig(dir, cluster string) (Config, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return Config{}, err
	}
	var names []string
	for _, f := range files {
		c, err := readConfig(f)
		if err != nil {
			return Config{}, err
		}
		host, _, _ := strings.Cut(c.Address, ":")
		if strings.HasPrefix(c.Address, "[") {
			host, _, _ = strings.Cut(c.Address[1:], "]")
		}
		if c.Cluster == cluster || c.Address != "" && (c.Address == cluster || host == cluster) {
			return c, nil
		}
		names = append(names, c.Cluster)
	}
	return Config{}, fmt.Errorf("%w: %q is not among %q in %s; run `clusterctl config export` as root on one of its nodes, and put what it prints there", ErrNoConfig, cluster, names, dir)
}

func readConfig(path string) (Config, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Config{}, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return Config{}, fmt.Errorf("%s holds a private key, and others may read it: run `chmod 600 %s`", path, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := yaml.Unmarshal(text, &c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Encode writes the configuration as a file has it.
func (c Config) Encode() ([]byte, error) { return yaml.Marshal(c) }

// Remote reaches the cluster at its address, or at the first of its nodes that
// answers where it has none.
func Remote(c Config) (*Client, error) {
	cert, err := tls.X509KeyPair([]byte(c.Certificate), []byte(c.Key))
	if err != nil {
		return nil, fmt.Errorf("the configuration of cluster %s: %w", c.Cluster, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(c.CA)) {
		return nil, fmt.Errorf("the configuration of cluster %s has no authority's certificate", c.Cluster)
	}
	addrs := c.Nodes
	if c.Address != "" {
		addrs = []string{c.Address}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("the configuration of cluster %s names neither an address nor a node", c.Cluster)
	}
	return tlsTo(addrs, &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, RootCAs: pool,
		// A node is known by the cluster's own authority, whatever its address is:
		// crypto/tls would ask for a name.
		InsecureSkipVerify: true,
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyNode(cs, pool) },
	}), nil
}

// verifyNode makes sure that a node of the cluster answers: its authority signs
// servers' certificates for nodes alone.
func verifyNode(cs tls.ConnectionState, pool *x509.CertPool) error {
	if len(cs.PeerCertificates) == 0 {
		return errors.New("the other side shows no certificate")
	}
	_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	if err != nil {
		return fmt.Errorf("what answers there is not of this cluster: %w", err)
	}
	return nil
}
