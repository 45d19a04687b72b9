package keeper

import (
	"context"
	"errors"
	"maps"
	"slices"

	"quorate/disk"
)

// release stops everything in good order, and gives the lease back.
func (k *Keeper) release(ctx context.Context) (int, error) {
	k.attaching.Lock()
	defer k.attaching.Unlock()
	n := k.o.Kill()
	k.losing.Lock() // what a lost lease has begun is done
	defer k.losing.Unlock()
	errs := []error{k.dropAddresses()}
	k.mu.Lock()
	volumes := k.volumes
	k.volumes = map[string]*attached{}
	k.mu.Unlock()
	for _, a := range volumes {
		a.admin.Lock()
		err := a.end(ctx)
		a.admin.Unlock()
		if errors.Is(err, errUnclean) {
			k.mu.Lock()
			k.unclean[a.name] = a
			k.mu.Unlock()
			err = nil
		} else {
			err = errors.Join(err, k.forget(a.name))
		}
		errs = append(errs, err)
	}
	errs = append(errs, k.detachDirectories(ctx), k.settle(ctx))
	k.mu.Lock()
	defer k.mu.Unlock()
	k.leader = nil
	if k.conf != nil {
		k.state, k.reason = released, "the lease was given back"
		errs = append(errs, k.endEpochLocked().save(k.o.StateDir))
	}
	k.changedLocked()
	return n, errors.Join(errs...)
}

// settle deals with the volumes that were not ended cleanly, by this noded or by one
// before it: only when it returns nil may the node say that it cannot write.
func (k *Keeper) settle(ctx context.Context) error {
	k.mu.Lock()
	names := slices.Sorted(maps.Keys(k.unclean))
	k.mu.Unlock()
	var errs []error
	for _, name := range names {
		errs = append(errs, k.settleOne(ctx, name))
	}
	return errors.Join(errs...)
}

// settleOne is settle for one volume.
func (k *Keeper) settleOne(ctx context.Context, name string) error {
	k.mu.Lock()
	a := k.unclean[name]
	k.mu.Unlock()
	if a == nil {
		return nil
	}
	if err := a.settle(ctx, func(ctx context.Context) (disk.LUN, error) { return k.o.OpenLUN(ctx, a.lun, volumePurpose) }); err != nil {
		return err
	}
	k.mu.Lock()
	delete(k.unclean, name)
	k.mu.Unlock()
	return k.forget(name)
}

// forget notes that nothing of this node can be under way to a volume's LUN.
func (k *Keeper) forget(name string) error {
	return k.remember(func(c *config) { delete(c.LUNs, name) })
}
