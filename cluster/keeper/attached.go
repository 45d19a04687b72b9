package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/coordinator"
	"quorate/csv/handover"
	"quorate/csv/mount"
	"quorate/disk"
)

// attached is a volume in use on this node.
type attached struct {
	name string
	path string
	key  disk.Key
	lun  *keeperpb.Lun
	typ  disk.Type
	// initiator is this node's name at the target, open reaches a LUN.
	initiator string
	open      func(context.Context, *keeperpb.Lun, string) (disk.LUN, error)
	gate      *gate
	c         *client.Client
	m         *mount.Mount
	// opened notes what is open for the next noded; nil where nobody is to go on. hand is
	// what that one needs besides, guarded by the keeper's mu.
	opened *handover.File
	hand   handed
	// unhold lets the holder forget the mount.
	unhold func()
	log    *zap.Logger
	// plain is the log without the volume's name.
	plain *zap.Logger

	// probing is set while a probe is under way, touching while the client is made to
	// find out how it reaches the LUN.
	probing, touching atomic.Bool
	// admin is held by whoever attaches, detaches, coordinates or fences.
	admin sync.Mutex

	mu sync.Mutex
	// All below is guarded by mu.
	coord *coordinator.Coordinator // nil where another node coordinates
	epoch uint64                   // of the ownership by which it does
	fault string
	// silence is who has not answered this coordinator.
	silence csv.Silence
	// unsettled: it was let go without a path to the LUN.
	unsettled bool
	watched   sync.WaitGroup
	ended     bool
}

// coordinating returns the coordinator, if it is on this node.
func (a *attached) coordinating() *coordinator.Coordinator {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.coord
}

// certain makes sure that no write of this node that was given up can still land.
func (a *attached) certain(ctx context.Context) error {
	if !a.gate.uncertain.Load() {
		return nil
	}
	return a.reset(ctx)
}

// reset ends what is under way on the LUN, while nothing of this node is.
func (a *attached) reset(ctx context.Context) error {
	return a.gate.quiet(func() error { return a.gate.LUN().ResetUnit(ctx) })
}

// options are those of a coordinator here.
func (a *attached) options(epoch uint64, evicted []csv.NodeID) coordinator.Options {
	return coordinator.Options{
		Device: a.gate, Epoch: epoch, Evicted: evicted, Reset: a.reset, Supplant: a.supplant, Now: time.Now, Log: a.plain,
	}
}

// session is how this node's session can be taken over, without passwords: whoever
// does it has its own.
func (a *attached) session() []byte {
	b, err := proto.Marshal(&keeperpb.Lun{Url: a.lun.Url, InitiatorName: a.initiator})
	if err != nil {
		panic(fmt.Sprintf("encode a name: %v", err)) // two strings, checked when they came
	}
	return b
}

// supplant logs in to the target in another node's name, which ends that node's session
// there (session reinstatement, RFC 7143 6.3.5): what it has sent and the target has
// not read is read no more. What the target has begun is for a reset to end.
func (a *attached) supplant(ctx context.Context, session []byte) error {
	var other keeperpb.Lun
	if err := proto.Unmarshal(session, &other); err != nil {
		return fmt.Errorf("volume %q: how to take another node's session over cannot be read: %w", a.name, err)
	}
	switch {
	case !strings.HasPrefix(other.Url, "iscsi://"):
		return fmt.Errorf("volume %q: a session to %s cannot be taken over: only those of the userspace initiator can", a.name, other.Url)
	case other.Url != a.lun.Url:
		return fmt.Errorf("volume %q: the other node has it at %s, this one at %s: its session cannot be taken over", a.name, other.Url, a.lun.Url)
	case other.InitiatorName == a.initiator:
		return fmt.Errorf("volume %q: the session is this node's own", a.name)
	}
	own := proto.CloneOf(a.lun)
	own.InitiatorName = other.InitiatorName
	lun, err := a.open(ctx, own, volumePurpose)
	if err != nil {
		return fmt.Errorf("volume %q: take over the session of %s: %w", a.name, other.InitiatorName, err)
	}
	return lun.Close()
}

// coordinate begins to serve the volume. What a coordinator before this one sent
// from here has ended when it opens the volume.
func (a *attached) coordinate(ctx context.Context, epoch uint64, evicted []csv.NodeID, supplant []byte) error {
	a.mu.Lock()
	running, have := a.coord, a.epoch
	a.mu.Unlock()
	switch {
	case running == nil:
	case have > epoch:
		return fmt.Errorf("volume %q is coordinated here by epoch %d already; epoch %d is over", a.name, have, epoch)
	case have == epoch:
		for _, n := range evicted {
			running.Evict(n)
		}
		return nil
	default: // the same node by a later epoch: hand over to itself
		if err := a.relinquish(ctx); err != nil {
			return err
		}
	}
	if err := a.certain(ctx); err != nil {
		return fmt.Errorf("coordinate volume %q: what was written before may be under way: %w", a.name, err)
	}
	if len(supplant) > 0 {
		if err := a.supplant(ctx, supplant); err != nil {
			return err
		}
		if err := a.reset(ctx); err != nil {
			return fmt.Errorf("coordinate volume %q: what the coordinator before wrote may be under way: %w", a.name, err)
		}
	}
	c, err := coordinator.New(ctx, a.options(epoch, evicted))
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		c.Abandon()
		return fmt.Errorf("volume %q: %w", a.name, disk.ErrFenced)
	}
	a.coord, a.epoch, a.fault, a.unsettled = c, epoch, "", false
	a.watched.Go(func() { a.watch(c, epoch) })
	return nil
}

// Pauses between attempts to coordinate again after a fault.
const (
	againPause = 200 * time.Millisecond
	againLimit = 60 * time.Second
)

// watch takes a volume up again when its coordinator failed though this node is
// not fenced: when the path to the LUN was lost in the middle of a checkpoint.
func (a *attached) watch(c *coordinator.Coordinator, epoch uint64) {
	<-c.Stopped()
	fault := c.Fault()
	if fault == nil || errors.Is(fault, coordinator.ErrStopped) {
		return
	}
	c.Abandon()
	for {
		a.mu.Lock()
		a.fault = fault.Error()
		stop := a.ended || a.coord != c
		if !stop && errors.Is(fault, disk.ErrFenced) {
			a.coord, stop = nil, true
		}
		a.mu.Unlock()
		if stop {
			return
		}
		time.Sleep(againPause)
		next, err := a.again(epoch)
		if err != nil {
			fault = err
			continue
		}
		a.mu.Lock()
		if a.ended || a.coord != c {
			a.mu.Unlock()
			next.Abandon()
			return
		}
		a.coord, a.fault = next, ""
		a.mu.Unlock()
		c = next
		a.watched.Go(func() { a.watch(next, epoch) })
		return
	}
}

// again opens the volume anew once nothing that the last coordinator sent can
// still be under way: after a reset of the unit that was answered.
func (a *attached) again(epoch uint64) (*coordinator.Coordinator, error) {
	ctx, cancel := context.WithTimeout(context.Background(), againLimit)
	defer cancel()
	if err := a.reset(ctx); err != nil {
		return nil, err
	}
	return coordinator.New(ctx, a.options(epoch, nil))
}

// relinquish ends coordinating; nothing of it can write after nil.
func (a *attached) relinquish(ctx context.Context) error {
	a.mu.Lock()
	c := a.coord
	a.coord = nil
	a.mu.Unlock()
	if c == nil {
		return nil
	}
	if err := c.Relinquish(ctx); err != nil {
		return err
	}
	return a.certain(ctx)
}

// leave is relinquish, also where there is no path to the LUN: then the coordinator
// stops where it is, the next one reads the journal, and before that ends what this
// node has under way over the session that is kept for it here.
func (a *attached) leave(ctx context.Context) error {
	if !a.gate.lost.Load() || !strings.HasPrefix(a.lun.Url, "iscsi://") {
		return a.relinquish(ctx)
	}
	a.mu.Lock()
	c := a.coord
	a.coord, a.unsettled = nil, true
	a.mu.Unlock()
	if c != nil {
		c.Abandon()
	}
	return nil
}

// letGo is relinquish at the cluster's wish: this node does not coordinate by that
// epoch, or by an earlier one, again.
func (k *Keeper) letGo(ctx context.Context, a *attached, epoch uint64) error {
	a.mu.Lock()
	have := a.epoch
	a.mu.Unlock()
	if epoch != 0 && have > epoch {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("volume %q is coordinated here by epoch %d: epoch %d is over", a.name, have, epoch))
	}
	if err := a.leave(ctx); err != nil {
		return err
	}
	return k.remember(func(c *config) { c.Released[a.name] = max(c.Released[a.name], have) })
}
