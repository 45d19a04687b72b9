package witness

import (
	"context"
	"errors"
	"fmt"

	"quorate/disk"
	"quorate/quorum"
)

// lunPlace is a LUN. Its holder has its persistent reservation (type 1); a takeover is
// a fence.
type lunPlace struct {
	lun     disk.LUN
	cluster string
}

// lunHeld is one tenure on a LUN, by a key of its own.
type lunHeld struct {
	lunPlace
	key disk.Key
}

var (
	_ Place = lunPlace{}
	_ Held  = lunHeld{}
)

// OnLUN is a LUN as the place of a cluster's witness. It is closed with the LUN.
func OnLUN(lun disk.LUN, clusterID string) Place { return lunPlace{lun, clusterID} }

// ReadHead implements Place.
func (p lunPlace) ReadHead(ctx context.Context, b []byte) error {
	return retried(func() error { return p.lun.ReadAt(ctx, b, labelOffset) })
}

// Close implements Place.
func (p lunPlace) Close() error { return p.lun.Close() }

// Take implements Place: it makes this node the holder of the LUN's reservation, the
// old holder fenced.
func (p lunPlace) Take(ctx context.Context, next quorum.Beat) (Held, error) {
	key := Key(p.cluster, next.Host, next.Generation)
	out := func(r disk.ReserveOut) error { return retried(func() error { return p.lun.Reserve(ctx, r) }) }
	if err := out(disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: key}); err != nil {
		return nil, fmt.Errorf("register: %w", err)
	}
	var r disk.Reservations
	read := func() error {
		return retried(func() (err error) { r, err = p.lun.Reservations(ctx); return err })
	}
	if err := read(); err != nil {
		return nil, fmt.Errorf("read reservations: %w", err)
	}
	if r.Type == 0 {
		if err := out(disk.ReserveOut{Action: disk.ReserveAction, Key: key, Type: disk.WriteExclusive}); err != nil {
			return nil, fmt.Errorf("reserve: %w", err)
		}
	}
	if r.Type != 0 && r.Holder != key {
		if _, err := disk.Fence(ctx, p.lun, disk.FenceRequest{Own: key, Victim: r.Holder, Type: disk.WriteExclusive}); err != nil {
			return nil, fmt.Errorf("fence the former host: %w", err)
		}
	} else if err := p.lun.ResetUnit(ctx); err != nil {
		// The former host was this node, or nobody: what it sent may be under way.
		return nil, fmt.Errorf("reset the LUN: %w", err)
	}
	if err := read(); err != nil {
		return nil, fmt.Errorf("read reservations: %w", err)
	}
	if r.Type != disk.WriteExclusive || r.Holder != key {
		return nil, fmt.Errorf("%w: the LUN is held by %v, not by %v", disk.ErrConflict, r.Holder, key)
	}
	for _, k := range r.Keys {
		if k != key { // of earlier hosts; harmless, but they would pile up
			if err := out(disk.ReserveOut{Action: disk.Preempt, Key: key, ServiceKey: k, Type: disk.WriteExclusive}); err != nil && !errors.Is(err, disk.ErrConflict) {
				return nil, fmt.Errorf("remove the old key %v: %w", k, err)
			}
		}
	}
	return lunHeld{p, key}, nil
}

// WriteHead implements Held. A unit attention is an error like any other: the holder
// makes sure of the reservation by a new takeover.
func (h lunHeld) WriteHead(ctx context.Context, b []byte, off int64) error {
	return h.lun.WriteAt(ctx, b, off)
}

// Flush implements Held.
func (h lunHeld) Flush(ctx context.Context) error {
	return retried(func() error { return h.lun.Flush(ctx) })
}

// Log implements Held: it stays where it is, for the fence let nothing of the former
// host through that is not there already.
func (h lunHeld) Log(ctx context.Context, voter uint64, last, next quorum.Beat) (Log, error) {
	log := Log{h.lun, JournalOptions(h.lun.Info(), h.cluster, voter)}
	if anew(last, next) {
		if err := empty(ctx, Log{h.lun, JournalOptions(h.lun.Info(), h.cluster, nobody)}); err != nil {
			return Log{}, err
		}
	}
	return log, nil
}

// Release implements Held. Unregistering the holder ends the reservation (SPC-4
// 5.13.11.2.3).
func (h lunHeld) Release(ctx context.Context) error {
	return h.lun.Reserve(ctx, disk.ReserveOut{Action: disk.Register, Key: h.key})
}
