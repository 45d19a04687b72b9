// Package scsi speaks the SCSI commands that a LUN needs (SPC-4, SBC-3) over
// any transport that can carry a CDB: it builds them, reads their answers and
// turns status and sense data into the errors of package disk. Unit makes a
// disk.LUN of a Transport.
//
// It is called by disk/iscsi and disk/block and by nobody else. It opens
// nothing and knows no network. It trusts no target: every length in an answer
// is checked against what was received.
//
// Traps: UNIT ATTENTION that may concern reservations (29/xx, 2a/xx) is never
// retried here, because what to do about it is the gate's decision (disk.Guard).
package scsi

import (
	"context"
	"fmt"
	"time"

	"quorate/disk"
)

// Direction is where a command's data goes.
type Direction int

// Directions.
const (
	None Direction = iota
	In             // from the target
	Out            // to the target
)

// Command is one SCSI command.
type Command struct {
	// CDB is 6 to 16 bytes.
	CDB []byte
	// Direction tells what Data is for.
	Direction Direction
	// Data is filled or sent. It belongs to the transport until Do returns.
	Data []byte
}

// Result is a command's outcome as the target gave it.
type Result struct {
	// Status is the SCSI status byte (SAM-5 5.3.1).
	Status byte
	// Key, ASC and ASCQ are from the sense data of a CHECK CONDITION.
	Key, ASC, ASCQ byte
	// Moved is how many bytes were received into Data.
	Moved int
}

// SCSI status codes (SAM-5 table 33).
const (
	statusGood         = 0x00
	statusCheck        = 0x02
	statusConditionMet = 0x04
	statusBusy         = 0x08
	statusConflict     = 0x18
	statusTaskSetFull  = 0x28
	statusTaskAborted  = 0x40
)

// Transport carries commands to one logical unit.
type Transport interface {
	// Do carries out one command. Its error is about the path (wrapping
	// disk.ErrPathLost, disk.ErrClosed or the context's), or a
	// *disk.AttentionError for a new session; the target's own verdict is in
	// the Result.
	Do(ctx context.Context, c Command) (Result, error)
	// ResetUnit is LOGICAL UNIT RESET; nil means that it was answered.
	ResetUnit(ctx context.Context) error
	// Close ends the path.
	Close() error
}

// Bounds of the retries inside Run.
const (
	maxAttentions = 8   // unit attentions of no concern to anybody
	maxBusy       = 50  // BUSY or TASK SET FULL
	busyWait      = 4   // milliseconds after the first BUSY, doubled each time
	busyWaitMax   = 250 // milliseconds
)

// Run carries out a command, again after BUSY and after unit attentions that
// concern nobody, and returns how many bytes were received. name is what the
// command is called in errors.
func Run(ctx context.Context, t Transport, name string, c Command) (int, error) {
	attentions, busy, wait := 0, 0, time.Duration(busyWait)*time.Millisecond
	for {
		r, err := t.Do(ctx, c)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case r.Status == statusGood || r.Status == statusConditionMet:
			if r.Moved < 0 || r.Moved > len(c.Data) {
				return 0, fmt.Errorf("%s: the target says that it sent %d bytes where %d were asked for", name, r.Moved, len(c.Data))
			}
			return r.Moved, nil
		case (r.Status == statusBusy || r.Status == statusTaskSetFull) && busy < maxBusy:
			busy++
			if err := sleep(ctx, wait); err != nil {
				return 0, fmt.Errorf("%s: the target is busy: %w", name, err)
			}
			wait = min(2*wait, busyWaitMax*time.Millisecond)
			continue
		case r.Status == statusCheck && r.Key == 6 && !surfaced(r) && attentions < maxAttentions:
			attentions++
			continue
		}
		return 0, fmt.Errorf("%s: %w", name, r.err())
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// surfaced tells which unit attentions the caller must see.
func surfaced(r Result) bool { return r.ASC == 0x29 || r.ASC == 0x2a }

// err is the error of a status that is not good.
func (r Result) err() error {
	switch r.Status {
	case statusConflict:
		return disk.ErrConflict
	case statusTaskAborted:
		// Another initiator's reset or preempt ended the command: the
		// same as the unit attention that follows it.
		return &disk.AttentionError{ASC: 0x29, ASCQ: 0x03}
	case statusCheck:
		sense := &disk.SenseError{Key: r.Key, ASC: r.ASC, ASCQ: r.ASCQ}
		switch {
		case r.Key == 6:
			return &disk.AttentionError{ASC: r.ASC, ASCQ: r.ASCQ}
		case r.Key == 5 && r.ASC == 0x20:
			return fmt.Errorf("%w (%w)", disk.ErrUnsupported, sense)
		}
		return sense
	}
	return fmt.Errorf("the target answered with status %#02x", r.Status)
}
