package keeper

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/volume"
	"quorate/disk"
)

// What is done with a volume that no node has attached: nobody coordinates it, and this
// node reads and writes its LUN itself. attaching is held meanwhile.

// check checks a volume that this node coordinates, or one that is closed.
func (k *Keeper) check(ctx context.Context, m *keeperpb.CheckRequest) (volume.Checked, error) {
	if m.Lun != nil {
		return k.checkClosed(ctx, m)
	}
	a, err := k.volume(m.Volume)
	if err != nil {
		return volume.Checked{}, err
	}
	c := a.coordinating()
	if c == nil {
		return volume.Checked{}, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("volume %q is coordinated by another node: ask there", a.name))
	}
	found, err := c.Check(ctx, m.Repair)
	if err != nil {
		return found, connect.NewError(connect.CodeUnavailable, err)
	}
	return found, nil
}

// checkClosed looks at a closed volume. To mend it, this node registers its key, as who
// attaches a volume does.
func (k *Keeper) checkClosed(ctx context.Context, m *keeperpb.CheckRequest) (found volume.Checked, err error) {
	if !m.Repair {
		k.attaching.Lock()
		defer k.attaching.Unlock()
		lun, err := k.openClosed(ctx, m.Volume, m.Lun)
		if err != nil {
			return found, err
		}
		defer func() { _ = lun.Close() }()
		v, err := volume.Inspect(ctx, lun)
		if err != nil {
			return found, connect.NewError(connect.CodeDataLoss, err)
		}
		return v.Check(ctx, false)
	}
	if m.Key == 0 || m.Epoch == 0 {
		return found, invalid("check volume %q: key and epoch must be given to mend it", m.Volume)
	}
	err = k.writeClosed(ctx, m.Volume, m.Lun, disk.Key(m.Key), func(g *gate) error {
		if id := g.Info().ID; m.Id != "" && id != m.Id {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("check volume %q: %s is the LUN %q, not %q", m.Volume, m.Lun.Url, id, m.Id))
		}
		v, err := volume.Open(ctx, g, m.Epoch)
		if err != nil {
			return connect.NewError(connect.CodeDataLoss, err)
		}
		if found, err = v.Check(ctx, true); err != nil {
			return err
		}
		return v.Close(ctx)
	})
	k.log.Info("closed volume checked", zap.String("volume", m.Volume), zap.Int("findings", len(found.Findings)), zap.Error(err))
	return found, err
}

// openClosed opens the LUN of a volume that is not attached here. attaching is held.
func (k *Keeper) openClosed(ctx context.Context, name string, at *keeperpb.Lun) (disk.LUN, error) {
	if at == nil || at.Url == "" {
		return nil, invalid("volume %q: its LUN must be given", name)
	}
	if _, err := k.volume(name); err == nil && name != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("volume %q is attached on this node", name))
	}
	lun, err := k.o.OpenLUN(ctx, at, volumePurpose)
	if err != nil {
		return nil, fmt.Errorf("volume %q: %w", name, err)
	}
	if _, err := readLabel(ctx, lun); errors.Is(err, volume.ErrNotVolume) {
		return nil, errors.Join(connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s: %w", at.Url, err)), lun.Close())
	}
	return lun, nil
}

// writeClosed writes to such a LUN with this node's key, and takes the key away after it.
// What cannot be known to have ended is settled before the LUN is used again, also by
// the noded after this one.
func (k *Keeper) writeClosed(ctx context.Context, name string, at *keeperpb.Lun, key disk.Key, do func(*gate) error) error {
	if err := k.needLease(); err != nil {
		return err
	}
	k.attaching.Lock()
	defer k.attaching.Unlock()
	if err := k.settleOne(ctx, name); err != nil {
		return err
	}
	lun, err := k.openClosed(ctx, name, at)
	if err != nil {
		return err
	}
	a := &attached{name: name, lun: at, key: key, typ: disk.WriteExclusiveRegistrantsOnly, log: k.log.With(zap.String("volume", name))}
	if err := k.remember(func(c *config) { c.LUNs[name] = usedLUN{a.lun, a.key} }); err != nil {
		return errors.Join(err, lun.Close())
	}
	guard, err := k.guard(ctx, lun, a)
	if err != nil {
		return errors.Join(fmt.Errorf("volume %q: %w", name, err), lun.Close(), k.forget(name))
	}
	a.gate = &gate{Guard: guard, latched: func(error) {}}
	err = do(a.gate)
	a.gate.close()
	clean := a.gate.drained(drainLimit)
	err = errors.Join(err, a.unregister(ctx), a.gate.Close())
	if clean {
		return errors.Join(err, k.forget(name))
	}
	k.mu.Lock()
	k.unclean[name] = a
	k.mu.Unlock()
	return err
}

// adopt makes a volume that lies on a LUN one of this cluster.
func (k *Keeper) adopt(ctx context.Context, m *keeperpb.AdoptRequest) (*keeperpb.AdoptResponse, error) {
	if m.Lun == nil || m.Key == 0 || m.ClusterId == "" {
		return nil, invalid("adopt: lun, key and cluster_id must be given")
	}
	res := &keeperpb.AdoptResponse{}
	lun, err := k.o.OpenLUN(ctx, m.Lun, volumePurpose)
	if err != nil {
		return nil, fmt.Errorf("adopt the volume on %s: %w", m.Lun.Url, err)
	}
	old, err := readLabel(ctx, lun)
	if err == nil {
		err = k.unused(ctx, lun, disk.Key(m.Key), m.Force)
	}
	if err = errors.Join(err, lun.Close()); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("adopt the volume on %s: %w", m.Lun.Url, err))
	}
	res.Cluster, res.Volume = old.Cluster, m.Volume
	if res.Volume == "" {
		res.Volume = old.Name
	}
	err = k.writeClosed(ctx, res.Volume, m.Lun, disk.Key(m.Key), func(g *gate) error {
		_, res.Epoch, err = volume.Adopt(ctx, g, volume.AdoptOptions{Name: res.Volume, Cluster: m.ClusterId, Force: m.Force})
		return err
	})
	if errors.Is(err, volume.ErrForeign) {
		return nil, connect.NewError(connect.CodeAlreadyExists, err)
	}
	if err != nil {
		return nil, err
	}
	k.log.Info("volume adopted", zap.String("volume", res.Volume), zap.String("of cluster", res.Cluster), zap.String("was named", old.Name))
	return res, nil
}

// unused makes sure that nobody uses a LUN. Where somebody's key is there, which may be
// a cluster that is alive, it is removed with force alone, and what it has under way ended.
func (k *Keeper) unused(ctx context.Context, lun disk.LUN, own disk.Key, force bool) error {
	if err := reserve(ctx, lun, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: own}); err != nil {
		return err
	}
	r, err := lun.Reservations(ctx)
	for _, other := range r.Keys {
		switch {
		case err != nil || other == own:
		case !force:
			err = fmt.Errorf("a node is registered on it with key %s: another cluster may use it. Stop that first, or take it away with --force", other)
		default:
			typ := r.Type
			if typ == 0 {
				typ = disk.WriteExclusiveRegistrantsOnly
			}
			_, err = disk.Fence(ctx, lun, disk.FenceRequest{Own: own, Victim: other, Type: typ})
		}
	}
	return errors.Join(err, reserve(ctx, lun, disk.ReserveOut{Action: disk.Register, Key: own}))
}
