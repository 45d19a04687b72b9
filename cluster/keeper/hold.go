package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/keeper/holder"
	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/handover"
)

// Hold is `noded hold`: it keeps the mounts while no noded is there.
func Hold(ctx context.Context, o Options) error {
	if o.Kill == nil {
		o.Kill = func() int { return killMachines(o.RunDir) }
	}
	return holder.Run(ctx, holder.Options{RunDir: o.RunDir, Clock: o.Clock, Kill: o.Kill, Log: o.Log})
}

// theHolder is the connection to it, nil where there is none.
func (k *Keeper) theHolder() *holder.Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.holder
}

// noteOpen begins to note what is open on a volume that is attached for the first time.
func (k *Keeper) noteOpen(a *attached, in *inherited) error {
	if in != nil {
		a.opened = in.open
		return nil
	}
	if k.o.StartHolder == nil {
		return nil
	}
	name := k.openFile(a.name)
	err := os.MkdirAll(filepath.Dir(name), 0o700)
	if err == nil {
		a.opened, err = handover.Create(name)
	}
	return err
}

// handed says what the noded after this one needs to know of a volume.
func (k *Keeper) handed(a *attached, m *keeperpb.AttachRequest) error {
	b, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	k.mu.Lock()
	a.hand.Attach, a.hand.NodeEpoch = b, k.conf.NodeEpoch
	k.mu.Unlock()
	k.coordinator(a, coordinatorName(m.Coordinator), m.Epoch)
	return k.keep(a, true)
}

// coordinator tells a volume's client who coordinates.
func (k *Keeper) coordinator(a *attached, name string, epoch uint64) {
	a.c.SetCoordinator(name, epoch)
	k.mu.Lock()
	defer k.mu.Unlock()
	if epoch >= a.hand.Epoch {
		a.hand.Coordinator, a.hand.Epoch = name, epoch
	}
}

// keep has the holder keep a mount, where this kernel can be made to ask again, or
// what is known of it where whole is false.
func (k *Keeper) keep(a *attached, whole bool) error {
	h := k.theHolder()
	if h == nil || a.opened == nil {
		return nil
	}
	if !a.m.CanResend() {
		a.log.Info("machines end with noded on this kernel: it cannot be made to ask again (Linux 6.9 can)")
		return nil
	}
	k.mu.Lock()
	meta, err := json.Marshal(a.hand)
	k.mu.Unlock()
	if err != nil {
		return err
	}
	m := holder.Mount{Name: a.name, Init: a.m.Init(), Meta: meta}
	if whole {
		m.Dev = a.m.Dev()
	}
	if err := h.Put(m); err != nil {
		k.lostHolder(h, err)
		return err
	}
	return nil
}

// lostHolder notes that the holder is gone; another is started.
func (k *Keeper) lostHolder(h *holder.Client, err error) {
	_ = h.Close()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.holder == h {
		k.holder = nil
		k.log.Error("the holder is gone; machines end with noded until there is another", zap.Error(err))
	}
}

// unhold lets the holder forget a mount that is no more.
func (k *Keeper) unhold(a *attached) {
	if a.opened == nil {
		return
	}
	a.opened.Remove()
	if h := k.theHolder(); h != nil {
		if err := h.Drop(a.name); err != nil {
			k.lostHolder(h, err)
		}
	}
}

// holding tells the holder of the lease whenever that changes, and sees to it that there
// is one.
func (k *Keeper) holding(ctx context.Context) {
	if k.o.StartHolder == nil {
		return
	}
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.renewed:
		case <-tick.C:
		}
		h := k.theHolder()
		if h == nil {
			k.anotherHolder(ctx)
			continue
		}
		if err := h.Lease(time.Duration(k.until.Load())); err != nil {
			k.lostHolder(h, err)
		}
	}
}

// anotherHolder starts one in place of one that died, and gives it all mounts.
func (k *Keeper) anotherHolder(ctx context.Context) {
	if err := k.meetHolder(ctx); err != nil {
		k.log.Debug("no holder", zap.Error(err))
		return
	}
	k.attaching.Lock()
	defer k.attaching.Unlock()
	k.mu.Lock()
	var all []*attached
	for _, a := range k.volumes {
		all = append(all, a)
	}
	k.mu.Unlock()
	for _, a := range all {
		if err := k.keep(a, true); err != nil {
			return
		}
	}
	k.tellHolder()
}

// tellHolder has the holder told of the lease.
func (k *Keeper) tellHolder() {
	select {
	case k.renewed <- struct{}{}:
	default:
	}
}

// HandOver prepares for the process to be replaced by another one, by exec(2): that is
// to follow at once where it returns nil. Where it does not, nothing has changed.
func (k *Keeper) HandOver(ctx context.Context) error {
	k.attaching.Lock() // for good: nothing comes or goes any more
	h := k.theHolder()
	var names []string
	err := errors.New("there is no holder")
	if h != nil {
		names, _, err = h.List()
	}
	k.mu.Lock()
	var all []*attached
	for _, a := range k.volumes {
		all = append(all, a)
	}
	k.mu.Unlock()
	if err == nil && len(names) < len(all) {
		err = errors.New("not all mounts are held")
	}
	if err == nil {
		err = h.Lease(time.Duration(k.until.Load()))
	}
	if err != nil {
		k.attaching.Unlock()
		return fmt.Errorf("noded cannot be replaced under running machines: %w", err)
	}
	for _, a := range all { // the journal is closed then, and need not be read
		a.admin.Lock()
		if err := a.relinquish(ctx); err != nil {
			a.log.Warn("handed over without the last checkpoint", zap.Error(err))
		}
	}
	return nil
}
