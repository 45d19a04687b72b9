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
	"quorate/csv/client"
	"quorate/csv/handover"
	"quorate/csv/mount"
	"quorate/disk"
)

// handed is what the holder keeps for the noded after this one, of one volume. What a
// later version adds an earlier one does not read.
type handed struct {
	// Attach is the request by which the volume was attached.
	Attach      []byte `json:"attach"`
	NodeEpoch   uint64 `json:"node_epoch"`
	Incarnation uint64 `json:"incarnation"`
	// Turn counts the processes that have served it; the first was 0.
	Turn uint32 `json:"turn"`
	// Coordinator and Epoch are those that were known last.
	Coordinator string `json:"coordinator"`
	Epoch       uint64 `json:"epoch"`
}

// inherited is what a noded before this one has left of one volume.
type inherited struct {
	hand   handed
	attach keeperpb.AttachRequest
	mount  holder.Mount
	open   *handover.File
}

// Bounds of waiting for the holder, and for the end of what the last noded wrote.
const (
	holderLimit = 5 * time.Second
	overLimit   = 3 * time.Second
)

// openFile is where it is noted what is open on a volume.
func (k *Keeper) openFile(volume string) string {
	return filepath.Join(k.o.RunDir, "handover", volume)
}

// meetHolder connects to the holder, and starts one where there is none.
func (k *Keeper) meetHolder(ctx context.Context) error {
	if k.o.StartHolder == nil {
		return nil
	}
	h, err := holder.Dial(k.o.RunDir)
	if err == nil {
		if _, _, err = h.List(); err != nil {
			_ = h.Close()
		}
	}
	if err != nil {
		if err = k.o.StartHolder(); err == nil {
			ctx, cancel := context.WithTimeout(ctx, holderLimit)
			defer cancel()
			h, err = holder.Await(ctx, k.o.RunDir)
		}
	}
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.holder = h
	return nil
}

// inherit goes on where the noded before this one was, with its mounts, its lease and its
// epoch. It returns false where that is not possible: then nothing of it is left.
func (k *Keeper) inherit(ctx context.Context, conf *config) bool {
	if k.holder == nil {
		return false
	}
	names, until, err := k.holder.List()
	if err != nil || len(names) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, until-k.o.Clock())
	defer cancel()
	began := k.o.Clock()
	if err = k.takeOver(ctx, conf, names, until); err == nil {
		k.log.Info("went on where the last noded was; the machines run on", zap.Strings("volumes", names), zap.Duration("took", k.o.Clock()-began))
		return true
	}
	k.log.Error("what the last noded left cannot be gone on with", zap.Error(err))
	k.o.Kill()
	k.mu.Lock()
	volumes := k.volumes
	k.volumes, k.state = map[string]*attached{}, unjoined
	k.until.Store(0)
	k.mu.Unlock()
	for _, a := range volumes {
		a.gate.close()
		_ = a.gate.Close()
		a.abort()
		a.gone()
	}
	for _, name := range names {
		_ = k.holder.Drop(name)
		_ = os.Remove(k.openFile(name))
	}
	return false
}

// takeOver is inherit for all volumes, or none.
func (k *Keeper) takeOver(ctx context.Context, conf *config, names []string, until time.Duration) error {
	switch {
	case conf == nil || conf.NodeEpoch <= conf.FencedEpoch:
		return errors.New("the node's epoch is over")
	case until <= k.o.Clock():
		return errors.New("the lease is over")
	}
	k.mu.Lock()
	k.lease.Inherit(until, conf.lease())
	k.until.Store(int64(until))
	k.state, k.reason = active, ""
	k.mu.Unlock()
	for _, name := range names {
		a, err := k.takeOne(ctx, conf, name)
		if err != nil {
			return fmt.Errorf("volume %q: %w", name, err)
		}
		k.mu.Lock()
		k.volumes[name] = a
		k.mu.Unlock()
	}
	for _, a := range k.volumes {
		if err := a.m.Resend(); err != nil {
			return fmt.Errorf("volume %q: %w", a.name, err)
		}
	}
	return nil
}

func (k *Keeper) takeOne(ctx context.Context, conf *config, name string) (*attached, error) {
	m, err := k.holder.Get(name)
	if err != nil {
		return nil, err
	}
	in := &inherited{mount: m}
	err = json.Unmarshal(m.Meta, &in.hand)
	if err == nil {
		err = proto.Unmarshal(in.hand.Attach, &in.attach)
	}
	if err == nil && in.hand.NodeEpoch != conf.NodeEpoch {
		err = fmt.Errorf("it was attached by epoch %d of this node, which is at %d", in.hand.NodeEpoch, conf.NodeEpoch)
	}
	if err == nil {
		in.open, err = handover.Open(k.openFile(name))
	}
	if err != nil {
		return nil, errors.Join(err, m.Dev.Close())
	}
	in.hand.Turn++
	a, err := k.open(ctx, &in.attach, in)
	if err != nil {
		return nil, errors.Join(err, m.Dev.Close(), in.open.Close())
	}
	return a, nil
}

// over makes sure that the process before this one is not fenced, and that what it
// wrote has ended: its key is on the LUN, and a reset was answered.
func (a *attached) over(ctx context.Context, lun disk.LUN) error {
	var r disk.Reservations
	err := pastAttentions(func() (err error) {
		r, err = lun.Reservations(ctx)
		return err
	})
	if err != nil {
		return err
	}
	if !r.Has(a.key) {
		return fmt.Errorf("the key %s of this node is not on the LUN: %w", a.key, disk.ErrFenced)
	}
	for {
		one, cancel := context.WithTimeout(ctx, overLimit) // of two resets at once a target may answer one never
		err := lun.ResetUnit(one)
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// resumed is what a client goes on with.
func (in *inherited) resumed() *client.Resumed {
	if in == nil {
		return nil
	}
	r := &client.Resumed{Turn: in.hand.Turn, Opens: map[uint64]int{}, Locks: in.open.Locks(), Written: in.open.Unrecorded()}
	for _, h := range in.open.Handles() {
		r.Opens[h.Ino]++
	}
	return r
}

// inheritedMount is what a mount goes on with.
func (in *inherited) inheritedMount() *mount.Inherited {
	if in == nil {
		return nil
	}
	m := &mount.Inherited{Dev: in.mount.Dev, Init: in.mount.Init, Turn: in.hand.Turn, Handles: map[uint64]mount.Opened{}}
	for fh, h := range in.open.Handles() {
		m.Handles[fh] = mount.Opened{Ino: h.Ino, Origin: h.Origin, Owners: h.Owners}
	}
	return m
}
