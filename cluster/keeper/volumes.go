package keeper

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/client"
	"quorate/csv/mount"
	"quorate/csv/volume"
	"quorate/disk"
)

// volumePurpose is the purpose of the session over which a node uses a volume: the
// same on every node, so that one can take over another's.
const volumePurpose = "volume"

func invalid(format string, a ...any) error {
	return connect.NewError(connect.CodeInvalidArgument, fmt.Errorf(format, a...))
}

// volume finds what is attached.
func (k *Keeper) volume(name string) (*attached, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if a := k.volumes[name]; a != nil {
		return a, nil
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("volume %q is not attached on this node: attach it first", name))
}

// attach opens the LUN, registers the key, starts the client and mounts.
func (k *Keeper) attach(ctx context.Context, m *keeperpb.AttachRequest) (string, error) {
	if m.Volume == "" || strings.ContainsAny(m.Volume, "/\x00") || m.Volume[0] == '.' {
		return "", invalid("volume: %q is no name for a volume", m.Volume)
	}
	if m.Directory != "" {
		return k.attachInOrder(ctx, m)
	}
	if m.Lun == nil || m.Lun.Url == "" || m.Key == 0 || m.Coordinator == nil || m.Epoch == 0 {
		return "", invalid("attach volume %q: lun, key, coordinator and epoch must be given", m.Volume)
	}
	if err := k.needLease(); err != nil {
		return "", err
	}
	k.attaching.Lock()
	defer k.attaching.Unlock()
	if a, err := k.volume(m.Volume); err == nil {
		if a.key != disk.Key(m.Key) {
			return "", connect.NewError(connect.CodeFailedPrecondition,
				fmt.Errorf("volume %q is attached with key %s, not %s: detach it first", m.Volume, a.key, disk.Key(m.Key)))
		}
		k.coordinator(a, coordinatorName(m.Coordinator), m.Epoch)
		if err := k.keep(a, false); err != nil {
			a.log.Warn("the next noded does not know the coordinator", zap.Error(err))
		}
		return a.path, nil
	}
	if err := k.settleOne(ctx, m.Volume); err != nil {
		return "", err
	}
	a, err := k.open(ctx, m, nil)
	if err != nil {
		return "", err
	}
	k.mu.Lock()
	ok := k.state == active && !k.stopping
	if ok {
		k.volumes[a.name] = a
	}
	k.mu.Unlock()
	if !ok {
		a.gate.close()
		_ = a.gate.Close()
		a.abort()
		a.gone()
		return "", connect.NewError(connect.CodeFailedPrecondition, errors.New("the lease was lost meanwhile"))
	}
	k.log.Info("volume attached", zap.String("volume", a.name), zap.String("path", a.path), zap.Stringer("key", a.key))
	return a.path, nil
}

// attachInOrder is attach for a volume that is a directory.
func (k *Keeper) attachInOrder(ctx context.Context, m *keeperpb.AttachRequest) (string, error) {
	if err := k.needLease(); err != nil {
		return "", err
	}
	k.attaching.Lock()
	defer k.attaching.Unlock()
	path := m.Path
	if path == "" {
		path = filepath.Join(k.o.StorageDir, m.Volume)
	}
	return k.attachDirectory(ctx, m, path)
}

// named is a volume that is not open yet.
func (k *Keeper) named(m *keeperpb.AttachRequest) *attached {
	a := &attached{name: m.Volume, lun: m.Lun, initiator: m.Lun.InitiatorName, open: k.o.OpenLUN, path: m.Path, key: disk.Key(m.Key), typ: disk.Type(m.Type), plain: k.log, log: k.log.With(zap.String("volume", m.Volume))}
	if a.initiator == "" {
		a.initiator = k.o.InitiatorName
	}
	if a.path == "" {
		a.path = filepath.Join(k.o.StorageDir, m.Volume)
	}
	if a.typ == 0 {
		a.typ = disk.WriteExclusiveRegistrantsOnly
	}
	a.unhold = func() { k.unhold(a) }
	return a
}

// open is attach without its checks, or goes on where the noded before this one was.
func (k *Keeper) open(ctx context.Context, m *keeperpb.AttachRequest, in *inherited) (*attached, error) {
	a := k.named(m)
	lun, err := k.o.OpenLUN(ctx, m.Lun, volumePurpose)
	if err != nil {
		return nil, fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	ok := false
	defer func() {
		if !ok {
			_ = lun.Close()
		}
	}()
	if err := a.check(ctx, lun, m); err != nil {
		return nil, err
	}
	if in != nil {
		if err := a.over(ctx, lun); err != nil {
			return nil, err
		}
	}
	if err := k.remember(func(c *config) { c.LUNs[a.name] = usedLUN{a.lun, a.key} }); err != nil {
		return nil, fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	guard, err := k.guard(ctx, lun, a)
	if err != nil {
		return nil, fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	a.gate = &gate{Guard: guard, latched: func(err error) {
		k.work.Go(func() { k.lose(fmt.Sprintf("volume %q: %v", m.Volume, err)) })
	}}
	if err := k.show(a, m, in); err != nil {
		return nil, err
	}
	ok = true
	return a, nil
}

// show makes a volume's client and its mount.
func (k *Keeper) show(a *attached, m *keeperpb.AttachRequest, in *inherited) error {
	if in != nil {
		a.hand = in.hand
	} else {
		var inc [8]byte
		_, _ = rand.Read(inc[:]) // never fails
		a.hand.Incarnation = binary.LittleEndian.Uint64(inc[:]) | 1
	}
	if err := k.noteOpen(a, in); err != nil {
		return fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	co := client.Options{
		Volume: m.Volume, Node: k.ownNode(), Incarnation: a.hand.Incarnation, Device: a.gate,
		Reachable: func() bool { return !a.gate.lost.Load() }, Session: a.session(),
		Dial: k.dial, Now: time.Now, Log: k.log, Resumed: in.resumed(),
	}
	mo := mount.Options{Path: a.path, Name: m.Volume, Log: k.log, Inherited: in.inheritedMount()}
	if a.opened != nil {
		co.Keep, mo.Keep = a.opened, a.opened
	}
	var err error
	if a.c, err = client.New(co); err != nil {
		return err
	}
	mo.Volume, mo.From = a.c, func(request uint64) mount.Volume { return a.c.From(request) }
	if a.m, err = mount.New(mo); err != nil {
		a.c.Abort()
		return err
	}
	if in != nil {
		k.coordinator(a, in.hand.Coordinator, in.hand.Epoch)
		return k.keep(a, false)
	}
	if err := k.handed(a, m); err != nil {
		a.log.Error("machines on this volume end with noded", zap.Error(err))
	}
	return nil
}

// check makes sure that the LUN is the one that was meant.
func (a *attached) check(ctx context.Context, lun disk.LUN, m *keeperpb.AttachRequest) error {
	if id := lun.Info().ID; m.Id != "" && id != m.Id {
		return connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("attach volume %q: %s is the LUN %q, not %q: find where that LUN is now", m.Volume, m.Lun.Url, id, m.Id))
	}
	l, err := readLabel(ctx, lun)
	if err != nil {
		return fmt.Errorf("attach volume %q: %w", m.Volume, err)
	}
	if l.Name != m.Volume {
		return connect.NewError(connect.CodeFailedPrecondition,
			fmt.Errorf("attach volume %q: %s bears the volume %q", m.Volume, m.Lun.Url, l.Name))
	}
	return nil
}

// readLabel reads past the unit attention of a new session.
func readLabel(ctx context.Context, lun disk.LUN) (l volume.Label, err error) {
	err = pastAttentions(func() error {
		l, err = volume.ReadLabel(ctx, lun)
		return err
	})
	return l, err
}

// guard registers on the LUN.
func (k *Keeper) guard(ctx context.Context, lun disk.LUN, a *attached) (*disk.Guard, error) {
	var caps disk.Capabilities
	ask := func() (err error) {
		caps, err = lun.Capabilities(ctx)
		return err
	}
	err := pastAttentions(ask)
	if errors.Is(err, disk.ErrConflict) {
		// Under others' reservation a target may answer that only to who is
		// registered.
		if err = reserve(ctx, lun, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: a.key}); err == nil {
			err = pastAttentions(ask)
		}
	}
	if err != nil {
		return nil, err
	}
	g, err := disk.NewGuard(lun, disk.GuardOptions{Type: a.typ, Permit: k.permit, Persist: caps.Persist})
	if err != nil {
		return nil, err
	}
	if err := g.Admit(ctx, a.key); err != nil {
		return nil, err
	}
	return g, nil
}

// maxAttentions is how many unit attentions may come before an answer.
const maxAttentions = 8

// pastAttentions asks again as long as unit attentions come before the answer.
func pastAttentions(ask func() error) (err error) {
	for range maxAttentions {
		var ua *disk.AttentionError
		if err = ask(); !errors.As(err, &ua) {
			break
		}
	}
	return err
}

// reserve is one PERSISTENT RESERVE OUT past the unit attentions before it.
func reserve(ctx context.Context, lun disk.LUN, out disk.ReserveOut) error {
	return pastAttentions(func() error { return lun.Reserve(ctx, out) })
}

// format makes a volume on a LUN.
func (k *Keeper) format(ctx context.Context, m *keeperpb.FormatRequest) (volume.Label, error) {
	if m.Lun == nil || m.Lun.Url == "" || m.Volume == "" {
		return volume.Label{}, invalid("format: lun and volume must be given")
	}
	lun, err := k.o.OpenLUN(ctx, m.Lun, "format")
	if err != nil {
		return volume.Label{}, fmt.Errorf("format volume %q: %w", m.Volume, err)
	}
	defer func() { _ = lun.Close() }()
	var id volume.UUID
	_, _ = rand.Read(id[:])
	if _, err := readLabel(ctx, lun); err != nil && !errors.Is(err, volume.ErrNotVolume) {
		k.log.Warn("what is on the LUN is unreadable as a volume", zap.Error(err))
	}
	l, err := volume.Format(ctx, lun, volume.FormatOptions{
		UUID: id, Name: m.Volume, Cluster: m.ClusterId, Now: time.Now().UnixNano(), Force: m.Force,
	})
	if errors.Is(err, volume.ErrForeign) {
		return l, connect.NewError(connect.CodeAlreadyExists, err)
	}
	return l, err
}

// detach ends the use of a volume.
//
// It waits for what opens or repairs a volume: when it says that there is none of that
// name, nothing of this node is under way to its LUN.
func (k *Keeper) detach(ctx context.Context, name string, keepKey bool) error {
	k.attaching.Lock()
	defer k.attaching.Unlock()
	if found, err := k.detachDirectory(name); found || err != nil {
		return err
	}
	if err := k.settleOne(ctx, name); err != nil {
		return err
	}
	a, err := k.volume(name)
	if err != nil {
		return err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	if err := a.close(ctx, keepKey); err != nil {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("detach volume %q: %w", name, err))
	}
	k.mu.Lock()
	if k.volumes[name] == a {
		delete(k.volumes, name)
	}
	uncertain := a.gate.uncertain.Load()
	if uncertain {
		k.unclean[name] = a
	}
	k.mu.Unlock()
	k.log.Info("volume detached", zap.String("volume", name))
	if uncertain {
		return nil
	}
	return k.forget(name)
}

// fenceKey fences another node on a volume's LUN.
func (k *Keeper) fenceKey(ctx context.Context, m *keeperpb.FenceKeyRequest) (uint32, error) {
	a, err := k.volume(m.Volume)
	if err != nil {
		return 0, err
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	var proof disk.Proof
	err = a.gate.quiet(func() error {
		proof, err = disk.Fence(ctx, a.gate.LUN(), disk.FenceRequest{Own: a.key, Victim: disk.Key(m.VictimKey), Type: a.typ})
		return err
	})
	if err != nil {
		return 0, err
	}
	k.log.Info("fenced", zap.String("volume", m.Volume), zap.Stringer("key", disk.Key(m.VictimKey)), zap.Uint64("node", m.VictimNode))
	return proof.Generation, k.evict(m.Volume, m.VictimNode)
}
