package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
)

// config is what Configure said, kept in noded.json.
type config struct {
	ClusterID  string   `json:"cluster_id"`
	NodeID     uint64   `json:"node_id"`
	NodeName   string   `json:"node_name"`
	NodeEpoch  uint64   `json:"node_epoch"`
	LeasePeers []string `json:"lease_peers"`
	Lease      int64    `json:"lease_ms"`
	Heartbeat  int64    `json:"heartbeat_ms"`
	// FencedEpoch is the last epoch whose lease was lost, or given back.
	FencedEpoch uint64 `json:"fenced_epoch"`
	// LUNs are those that this node has written to, by volume, since it last was
	// known to write no more: a noded that is started after a crash or a loss of
	// power must see to it that what it sent before has ended.
	LUNs map[string]usedLUN `json:"luns,omitempty"`
	// Released are the epochs by which the node coordinated volumes last, and
	// has let go: it coordinates by none of them again.
	Released map[string]uint64 `json:"released,omitempty"`
}

// usedLUN is how to reach a volume's LUN, and the key that was used there.
type usedLUN struct {
	LUN *keeperpb.Lun `json:"lun"`
	Key disk.Key      `json:"key"`
}

// clone copies what may be changed.
func (c config) clone() config {
	c.LUNs, c.Released = maps.Clone(c.LUNs), maps.Clone(c.Released)
	if c.LUNs == nil {
		c.LUNs = map[string]usedLUN{}
	}
	if c.Released == nil {
		c.Released = map[string]uint64{}
	}
	return c
}

// released is the epoch by which the node coordinated a volume last and has let go.
func (k *Keeper) released(volume string) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conf == nil {
		return 0
	}
	return k.conf.Released[volume]
}

// remember changes the configuration, on disk first.
func (k *Keeper) remember(change func(*config)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conf == nil {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New("noded is not configured"))
	}
	c := k.conf.clone()
	change(&c)
	if err := c.save(k.o.StateDir); err != nil {
		return fmt.Errorf("record the state of noded: %w", err)
	}
	k.conf = &c
	return nil
}

// Bounds of what Configure may say, in milliseconds.
const (
	minHeartbeat = 10
	maxLease     = 600_000
	maxPeers     = 256
)

func configOf(m *keeperpb.ConfigureRequest) (config, error) {
	var errs []error
	fault := func(f string, a ...any) { errs = append(errs, fmt.Errorf(f, a...)) }
	if m.ClusterId == "" {
		fault("cluster_id: must be given")
	}
	if m.NodeId == 0 {
		fault("node_id: must not be zero")
	}
	if len(m.LeasePeers) == 0 || len(m.LeasePeers) > maxPeers {
		fault("lease_peers: %d addresses: must be 1 to %d", len(m.LeasePeers), maxPeers)
	}
	for _, p := range m.LeasePeers {
		if _, _, err := net.SplitHostPort(p); err != nil {
			fault("lease_peers: %q: must be host:port", p)
		}
	}
	if m.HeartbeatMs < minHeartbeat || m.LeaseMs < 2*m.HeartbeatMs || m.LeaseMs > maxLease {
		fault("heartbeat_ms %d, lease_ms %d: the heartbeat must be at least %d, the lease at least two heartbeats and at most %d",
			m.HeartbeatMs, m.LeaseMs, minHeartbeat, maxLease)
	}
	c := config{
		ClusterID: m.ClusterId, NodeID: m.NodeId, NodeName: m.NodeName, NodeEpoch: m.NodeEpoch,
		LeasePeers: m.LeasePeers, Lease: m.LeaseMs, Heartbeat: m.HeartbeatMs,
	}
	return c, errors.Join(errs...)
}

func (c config) heartbeat() time.Duration { return time.Duration(c.Heartbeat) * time.Millisecond }
func (c config) lease() time.Duration     { return time.Duration(c.Lease) * time.Millisecond }

const configFile = "noded.json"

// loadConfig returns nil where noded was never configured.
func loadConfig(dir string) (*config, error) {
	b, err := os.ReadFile(filepath.Join(dir, configFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c := &config{}
	if err := json.Unmarshal(b, c); err != nil {
		return nil, fmt.Errorf("%s: %w; remove it, clusterd will configure noded anew", filepath.Join(dir, configFile), err)
	}
	return c, nil
}

// saving keeps two goroutines from writing the file at once; it guards a file, not a
// variable, and so is the package's.
var saving sync.Mutex

// save replaces the file as a whole.
func (c config) save(dir string) error {
	saving.Lock()
	defer saving.Unlock()
	b, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return err
	}
	name := filepath.Join(dir, configFile)
	f, err := os.OpenFile(name+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(name+".new", name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
