package keeper

import (
	"context"
	"errors"
	"fmt"
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
		}
		errs = append(errs, err)
	}
	errs = append(errs, k.settle(ctx))
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

// settle deals with the volumes that were not ended cleanly: only when it returns
// nil may the node say that it cannot write.
func (k *Keeper) settle(ctx context.Context) error {
	k.mu.Lock()
	unclean := slices.Collect(maps.Values(k.unclean))
	k.mu.Unlock()
	var errs []error
	for _, a := range unclean {
		err := a.settle(ctx, func(ctx context.Context) (disk.LUN, error) { return k.o.OpenLUN(ctx, a.lun, "volume") })
		if err == nil {
			k.mu.Lock()
			delete(k.unclean, a.name)
			k.mu.Unlock()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// outlive makes sure, once for each volume, that nothing is under way to its LUN
// that a noded before this one has sent.
func (k *Keeper) outlive(ctx context.Context, a *attached) error {
	k.mu.Lock()
	needed := k.inherit && !k.settled[a.name]
	k.mu.Unlock()
	if !needed {
		return nil
	}
	if err := a.gate.quiet(func() error { return a.gate.LUN().ResetUnit(ctx) }); err != nil {
		return fmt.Errorf("attach volume %q: what the last noded wrote may be under way: %w", a.name, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.settled[a.name] = true
	return nil
}
