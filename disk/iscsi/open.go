//go:build cgo

package iscsi

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"quorate/disk"
	"quorate/disk/scsi"
)

// Open logs in and returns the LUN when it is ready. A session that is lost
// later is made again; commands that were under way then return
// disk.ErrPathLost, commands that waited for it *disk.AttentionError, and were
// not performed. The LUN implements disk.Sessioned.
func Open(ctx context.Context, o Options) (disk.LUN, error) {
	if err := o.check(true); err != nil {
		return nil, err
	}
	name := URL(o.Portal, o.Target, o.LUN)
	s, err := newSession(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	u, err := scsi.NewUnit(ctx, path{s, o.LUN}, name)
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return u, nil
}

// Discover asks a portal for its targets (SendTargets). Of the options,
// InitiatorName is needed, CHAP, Timeout and Log are heeded.
func Discover(ctx context.Context, portal string, o Options) ([]Target, error) {
	o.URL, o.Portal, o.Target = "", portal, ""
	o.Purpose += unique()
	if err := o.check(false); err != nil {
		return nil, err
	}
	t, err := discover(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("discover the targets of %s: %w", o.Portal, err)
	}
	return t, nil
}

// List describes the disks among a target's units, in the order of their
// numbers: REPORT LUNS, and each unit's INQUIRY and capacity. LUN is not
// heeded. A unit that cannot be identified is left out, and named in an error
// beside the others.
func List(ctx context.Context, o Options) ([]disk.Info, error) {
	if o.URL == "" {
		o.LUN = 0
	}
	o.Purpose += unique()
	if err := o.check(true); err != nil {
		return nil, err
	}
	s, err := newSession(ctx, o)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := scsi.Ready(ctx, path{s, 0}); errors.Is(err, disk.ErrPathLost) || ctx.Err() != nil {
		return nil, err
	}
	luns, err := scsi.ReportLUNs(ctx, path{s, 0})
	if err != nil {
		return nil, fmt.Errorf("list the units of %s: %w", o.Target, err)
	}
	slices.Sort(luns)
	var found []disk.Info
	var faults []error
	for _, lun := range luns {
		p := path{s, lun}
		name := URL(o.Portal, o.Target, lun)
		err := scsi.Ready(ctx, p)
		var info disk.Info
		if err == nil {
			info, _, err = scsi.Identify(ctx, p, name)
		}
		switch {
		case errors.Is(err, disk.ErrUnsupported): // a controller, a tape, odd blocks
		case err != nil:
			faults = append(faults, fmt.Errorf("identify %s: %w", name, err))
		default:
			found = append(found, info)
		}
	}
	return found, errors.Join(faults...)
}

var calls atomic.Uint64

// unique is a purpose for a session that is used once, so that two at a time do
// not end each other.
func unique() string { return fmt.Sprintf("/once/%d/%d", os.Getpid(), calls.Add(1)) }

func (o *Options) check(needTarget bool) error {
	if err := o.EnsureDefaults(); err != nil {
		return err
	}
	err := o.Validate()
	if needTarget && o.Target == "" {
		err = errors.Join(err, errors.New("no target is named"))
	}
	if err != nil {
		return fmt.Errorf("options of the iSCSI initiator: %w", err)
	}
	return nil
}
