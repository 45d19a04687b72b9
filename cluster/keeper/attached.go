package keeper

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv"
	"quorate/csv/client"
	"quorate/csv/coordinator"
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
	gate *gate
	c    *client.Client
	m    *mount.Mount
	log  *zap.Logger
	// plain is the log without the volume's name.
	plain *zap.Logger

	// probing is set while a probe is under way.
	probing atomic.Bool
	// admin is held by whoever attaches, detaches, coordinates or fences.
	admin sync.Mutex

	mu sync.Mutex
	// All below is guarded by mu.
	coord   *coordinator.Coordinator // nil where another node coordinates
	epoch   uint64                   // of the ownership by which it does
	fault   string
	watched sync.WaitGroup
	ended   bool
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
	return a.gate.quiet(func() error { return a.gate.LUN().ResetUnit(ctx) })
}

// coordinate begins to serve the volume. What a coordinator before this one sent
// from here has ended when it opens the volume.
func (a *attached) coordinate(ctx context.Context, epoch uint64, evicted []csv.NodeID) error {
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
	c, err := coordinator.New(ctx, coordinator.Options{
		Device: a.gate, Epoch: epoch, Evicted: evicted, Now: time.Now, Log: a.plain,
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended {
		c.Abandon()
		return fmt.Errorf("volume %q: %w", a.name, disk.ErrFenced)
	}
	a.coord, a.epoch, a.fault = c, epoch, ""
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
	if err := a.gate.quiet(func() error { return a.gate.LUN().ResetUnit(ctx) }); err != nil {
		return nil, err
	}
	return coordinator.New(ctx, coordinator.Options{Device: a.gate, Epoch: epoch, Now: time.Now, Log: a.plain})
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

// letGo is relinquish at the cluster's wish: this node does not coordinate by that
// epoch, or by an earlier one, again.
func (k *Keeper) letGo(ctx context.Context, a *attached, epoch uint64) error {
	a.mu.Lock()
	have := a.epoch
	a.mu.Unlock()
	if epoch != 0 && have > epoch {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("volume %q is coordinated here by epoch %d: epoch %d is over", a.name, have, epoch))
	}
	if err := a.relinquish(ctx); err != nil {
		return err
	}
	return k.remember(func(c *config) { c.Released[a.name] = max(c.Released[a.name], have) })
}
