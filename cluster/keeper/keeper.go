package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"quorate/cluster/fence"
	"quorate/cluster/keeper/holder"
	"quorate/cluster/trust"
	"quorate/csv"
)

// state is what a node may do.
type state string

const (
	unjoined state = "unjoined" // no identity, or never configured
	waiting  state = "waiting"  // no lease yet for this epoch
	active   state = "active"
	fenced   state = "fenced"   // the lease was lost
	released state = "released" // the lease was given back
)

// Keeper is noded.
type Keeper struct {
	o       Options
	log     *zap.Logger
	started time.Duration
	cancel  context.CancelFunc
	work    sync.WaitGroup
	socket  *http.Server
	tcp     net.Listener // nil while unjoined

	// attaching is held while volumes come and go; it is taken before mu.
	attaching sync.Mutex

	// losing is held while a lost lease is dealt with; nothing is taken under it
	// but mu.
	losing sync.Mutex

	// addressing is held while an address comes or goes; it is taken before losing.
	addressing sync.Mutex

	// until is when the lease ends, on o.Clock; writes are checked against it.
	until atomic.Int64

	// renewed is sent to when the lease's end has changed.
	renewed chan struct{}

	mu sync.Mutex
	// All below is guarded by mu.
	holder   *holder.Client // nil where there is none
	conf     *config
	id       *trust.Identity
	lease    fence.Lease
	state    state
	reason   string
	leader   []string // where the lease was last renewed: all its addresses
	refusal  string
	volumes  map[string]*attached
	shared   map[string]*shared   // volumes that are directories
	held     map[netip.Addr]bool  // addresses of the cluster on this node
	unclean  map[string]*attached // whose last writes may still be under way
	changed  chan struct{}        // closed when conf or id change
	ctx      context.Context
	stopping bool
}

// New makes a keeper that does nothing yet.
func New(o Options) (*Keeper, error) {
	if o.Kill == nil {
		o.Kill = func() int { return killMachines(o.RunDir) }
	}
	if o.OpenLUN == nil {
		o.OpenLUN = o.openLUN
	}
	if o.wire == nil {
		o.wire = netWire{}
	}
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("noded: %w", err)
	}
	return &Keeper{
		o: o, log: o.Log, state: unjoined, reason: "this node is in no cluster",
		held: map[netip.Addr]bool{}, volumes: map[string]*attached{}, shared: map[string]*shared{}, unclean: map[string]*attached{}, changed: make(chan struct{}),
		renewed: make(chan struct{}, 1),
	}, nil
}

// identityDir is where the node's identity lies below the state directory.
const identityDir = "identity"

// identityPoll is how often an unjoined node looks for its identity.
const identityPoll = time.Second

// Start serves the socket, and goes on where the node was: with its
// configuration, but without volumes, which clusterd attaches again.
func (k *Keeper) Start(ctx context.Context) error {
	k.started = k.o.Clock()
	for _, dir := range []string{k.o.StateDir, k.o.RunDir, k.o.StorageDir} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("start noded: %w", err)
		}
	}
	conf, err := loadConfig(k.o.StateDir)
	if err != nil {
		return fmt.Errorf("start noded: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	k.cancel = cancel
	k.mu.Lock()
	k.conf, k.ctx = conf, run
	k.mu.Unlock()
	if err := k.begin(ctx, conf); err != nil {
		cancel()
		return fmt.Errorf("start noded: %w", err)
	}
	if err := k.serveSocket(); err != nil {
		cancel()
		return fmt.Errorf("start noded: %w", err)
	}
	k.work.Go(func() { k.join(run) })
	k.work.Go(func() { k.renew(run) })
	k.work.Go(func() { k.watch(run) })
	k.work.Go(func() { k.probe(run) })
	k.work.Go(func() { k.holding(run) })
	return nil
}

// begin goes on where the noded before this one was, or clears away what it has left.
func (k *Keeper) begin(ctx context.Context, conf *config) error {
	if err := k.meetHolder(ctx); err != nil {
		k.log.Error("there is no holder: machines end with noded", zap.Error(err))
	}
	goesOn := k.inherit(ctx, conf)
	if !goesOn {
		if n := k.o.Kill(); n > 0 {
			k.log.Warn("machines were killed: their disks went with the last noded", zap.Int("machines", n))
		}
	}
	if err := k.dropInherited(); err != nil {
		return fmt.Errorf("take the cluster's address away: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.unmountStaleLocked()
	if conf == nil {
		return nil
	}
	for name, l := range conf.LUNs { // what the noded before this one had
		if k.volumes[name] == nil {
			k.unclean[name] = &attached{name: name, lun: l.LUN, key: l.Key, log: k.log.With(zap.String("volume", name))}
		}
	}
	if !goesOn {
		k.enterEpochLocked()
	}
	return nil
}

// Stop ends noded as Release does, as far as ctx allows.
func (k *Keeper) Stop(ctx context.Context) error {
	k.mu.Lock()
	k.stopping = true
	k.mu.Unlock()
	_, err := k.release(ctx)
	if k.cancel != nil {
		k.cancel()
	}
	if k.socket != nil {
		err = errors.Join(err, k.socket.Close())
	}
	k.mu.Lock()
	if k.holder != nil {
		_ = k.holder.Lease(0)
		_ = k.holder.Close()
	}
	if k.tcp != nil {
		_ = k.tcp.Close()
	}
	k.mu.Unlock()
	k.work.Wait()
	return err
}

// join waits for the node's identity, and then listens for clients of volumes.
func (k *Keeper) join(ctx context.Context) {
	for {
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		id, err := trust.Load(filepath.Join(k.o.StateDir, identityDir))
		if err == nil {
			if err = k.joined(ctx, id); err == nil {
				return
			}
			k.log.Error("cannot listen for other nodes", zap.Error(err))
		} else if !errors.Is(err, trust.ErrUnjoined) {
			k.log.Error("the node's identity cannot be read", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(identityPoll):
		}
	}
}

func (k *Keeper) joined(ctx context.Context, id *trust.Identity) error {
	l, err := k.listen(ctx)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tcp, k.id = l, id
	k.log.Info("joined", zap.String("cluster", id.ClusterID), zap.Uint64("node", id.NodeID), zap.String("listen", l.Addr().String()))
	k.changedLocked()
	return nil
}

func (k *Keeper) changedLocked() {
	close(k.changed)
	k.changed = make(chan struct{})
}

// enterEpochLocked sets the state by what the configuration says of the epoch.
func (k *Keeper) enterEpochLocked() {
	if k.conf.NodeEpoch <= k.conf.FencedEpoch {
		k.state, k.reason = fenced, fmt.Sprintf("epoch %d is over; clusterd must configure a new one", k.conf.NodeEpoch)
		return
	}
	k.state, k.reason = waiting, "no lease yet"
}

// endEpochLocked notes that the present epoch's lease is over for good. What conf
// points to is never changed, only replaced.
func (k *Keeper) endEpochLocked() config {
	c := *k.conf
	c.FencedEpoch = max(c.FencedEpoch, c.NodeEpoch)
	k.conf = &c
	k.lease.Revoke()
	k.until.Store(0)
	return c
}

// permit is asked before each write to a volume.
func (k *Keeper) permit() error {
	if int64(k.o.Clock()) >= k.until.Load() {
		return fence.ErrNoLease
	}
	return nil
}

// ownNode is this node's id, 0 where it is not configured.
func (k *Keeper) ownNode() csv.NodeID {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conf == nil {
		return 0
	}
	return csv.NodeID(k.conf.NodeID)
}
