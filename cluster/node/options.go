package node

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/resources/vm"
)

// Ports, where the options give none.
const (
	DefaultAPIPort    = 7400
	DefaultKeeperPort = 7401
	DefaultGossipPort = 7402
)

// Options are a node's. Zero fields get the defaults of EnsureDefaults.
type Options struct {
	// Name is the node's; the host name unless given.
	Name string
	// StateDir holds identity, log and favourites; RunDir sockets; EtcDir what
	// configuration management lays down; StorageDir the volumes' mounts.
	StateDir, RunDir, EtcDir, StorageDir string
	// Listen is the address of the one TLS port.
	Listen string
	// KeeperPort and GossipPort are on every address.
	KeeperPort, GossipPort int
	// Profile names the timings.
	Profile string
	// Accel is how machines' processors are run.
	Accel vm.Accel
	// Networks names this node's bridge for a network of the cluster.
	Networks map[string]string
	// ShareGuard says whether the file system of a directory can guard a witness;
	// nil, and so witness.Guarded, everywhere but in tests that bring their own.
	ShareGuard func(dir string) error
	// DirectoryGuard says whether nodes can share the file system of a directory, and
	// what it is; nil, and so witness.Shared, everywhere but in tests.
	DirectoryGuard func(dir string) (kind string, err error)
	Log            *zap.Logger
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	def := func(s *string, d string) {
		if *s == "" {
			*s = d
		}
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	def(&o.StateDir, "/var/lib/quorate")
	def(&o.RunDir, "/run/quorate")
	def(&o.EtcDir, "/etc/quorate")
	def(&o.StorageDir, "/ClusterStorage")
	def(&o.Listen, ":"+strconv.Itoa(DefaultAPIPort))
	def(&o.Profile, "normal")
	def((*string)(&o.Accel), string(vm.AccelAuto))
	if o.KeeperPort == 0 {
		o.KeeperPort = DefaultKeeperPort
	}
	if o.GossipPort == 0 {
		o.GossipPort = DefaultGossipPort
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
}

// Validate lists all that is wrong.
func (o Options) Validate() error {
	var errs []error
	if err := cluster.CheckName("node", o.Name); err != nil {
		errs = append(errs, err)
	}
	for name, dir := range map[string]string{"state": o.StateDir, "run": o.RunDir, "etc": o.EtcDir, "storage": o.StorageDir} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("%s: %q is not an absolute path", name, dir))
		}
	}
	if _, err := o.apiPort(); err != nil {
		errs = append(errs, err)
	}
	for name, port := range map[string]int{"keeper-port": o.KeeperPort, "gossip-port": o.GossipPort} {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("%s: %d is no port", name, port))
		}
	}
	if _, err := cluster.ProfileNamed(o.Profile); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (o Options) apiPort() (int, error) {
	_, port, err := net.SplitHostPort(o.Listen)
	if err != nil {
		return 0, fmt.Errorf("listen: %q is not host:port: %w", o.Listen, err)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return 0, fmt.Errorf("listen: %q is no port", port)
	}
	return n, nil
}

func (o Options) identityDir() string     { return filepath.Join(o.StateDir, "identity") }
func (o Options) logPath() string         { return filepath.Join(o.StateDir, "raft.log") }
func (o Options) incarnationPath() string { return filepath.Join(o.StateDir, "incarnation") }
func (o Options) peersPath() string       { return filepath.Join(o.StateDir, "peers.json") }
func (o Options) socketPath() string      { return filepath.Join(o.RunDir, "clusterd.sock") }
func (o Options) keeperSocket() string    { return filepath.Join(o.RunDir, "noded.sock") }
func (o Options) machinesDir() string     { return filepath.Join(o.RunDir, "machines") }
func (o Options) enrollKeyPath() string   { return filepath.Join(o.EtcDir, "enroll.key") }
func (o Options) profile() cluster.Profile {
	p, _ := cluster.ProfileNamed(o.Profile) // validated
	return p
}

// Bounds of what a node waits for.
const (
	proposeTimeout = 6 * time.Second
	readTimeout    = 3 * time.Second
	agentInterval  = 200 * time.Millisecond
	leaderInterval = 50 * time.Millisecond
)
