// Package disk is what Quorate knows of a LUN: reading, writing, flushing, and
// the persistent reservations by which nodes keep each other from writing.
//
// It declares the interfaces and the errors, the gate that every node keeps in
// front of its own writes (Guard), the fence that takes another node's writes
// away (Fence), and the twins that stand in for a LUN in tests: Memory, Faulty
// and Crashing. The devices themselves lie below: disk/iscsi over the network,
// disk/block over a kernel device, disk/file over a plain file, disk/journal an
// atomic record log on any of them.
//
// It is called by whatever keeps state on a LUN: the witness, the volumes, the
// validation. It never opens a device by itself, and knows nothing of clusters.
//
// Traps: an answered PREEMPT does not mean that the victim's writes are over
// (see Fence), and a target that restarted may have forgotten every key.
package disk

import (
	"context"
	"errors"
	"fmt"
)

// Device is a range of blocks. Offsets and lengths are bytes and multiples of
// Info().BlockSize. All methods may be called by several goroutines at once.
//
// An operation whose context ends returns the context's error; a write given up
// that way may still happen.
type Device interface {
	// Info describes the device as it was when it was opened, or its size was last
	// asked for again (Rescanner).
	Info() Info
	// ReadAt fills p from off. It reads all of p or returns an error.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at off. After nil the data is visible to every
	// reader, and durable once Flush has returned nil.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Flush makes every write that was answered before it durable.
	Flush(ctx context.Context) error
	// Close ends the use of the device and fails what is in flight.
	Close() error
}

// Reserver is the part of a LUN that deals in persistent reservations
// (SPC-4 5.13) and resets.
type Reserver interface {
	// Reservations reads keys and reservation (PERSISTENT RESERVE IN, READ
	// KEYS and READ RESERVATION) with the generation that both were seen at.
	Reservations(ctx context.Context) (Reservations, error)
	// Reserve carries out one PERSISTENT RESERVE OUT command.
	Reserve(ctx context.Context, r ReserveOut) error
	// ResetUnit sends LOGICAL UNIT RESET and returns nil only when the
	// target has answered that the function is complete.
	ResetUnit(ctx context.Context) error
	// Capabilities asks the target what it can do.
	Capabilities(ctx context.Context) (Capabilities, error)
}

// LUN is a Device with reservations.
type LUN interface {
	Device
	Reserver
}

// Info describes a device.
type Info struct {
	// URL names the device as an operator does: iscsi://host:port/iqn/lun,
	// or a path such as /dev/disk/by-id/....
	URL string
	// ID is the identity of the LUN from VPD page 0x83, the same on every
	// path and every node ("naa.6001405...", "eui....", "t10...."); empty
	// where the device has none.
	ID string
	// Serial is the unit serial number (VPD page 0x80), or empty.
	Serial string
	// Vendor and Product are from the standard INQUIRY data.
	Vendor, Product string
	// Size is in bytes.
	Size int64
	// BlockSize is in bytes: 512 or 4096.
	BlockSize int
}

// Key is a reservation key. Zero means no key.
type Key uint64

func (k Key) String() string { return fmt.Sprintf("0x%016x", uint64(k)) }

// Type is a persistent reservation type (SPC-4 table 52).
type Type uint8

// The types that Quorate uses.
const (
	// WriteExclusive (1): only the holder may write. For the witness.
	WriteExclusive Type = 1
	// WriteExclusiveRegistrantsOnly (5): whoever is registered may write. For
	// volumes. It ends when its holder unregisters; the others then reserve
	// anew. Type 7 would not end, but a common target (tgt 1.0.85) frees the
	// registration that it keeps as its holder when that is preempted by key,
	// and from then on refuses reads or crashes.
	WriteExclusiveRegistrantsOnly Type = 5
)

// Action is a PERSISTENT RESERVE OUT service action (SPC-4 table 63).
type Action uint8

// Service actions.
const (
	Register       Action = 0x00
	ReserveAction  Action = 0x01
	Release        Action = 0x02
	Clear          Action = 0x03
	Preempt        Action = 0x04
	PreemptAbort   Action = 0x05
	RegisterIgnore Action = 0x06
)

// ReserveOut is one PERSISTENT RESERVE OUT command.
type ReserveOut struct {
	Action Action
	// Key is the sender's own key (RESERVATION KEY); ignored by
	// RegisterIgnore.
	Key Key
	// ServiceKey is the key to register, or the victim's key for a preempt.
	ServiceKey Key
	// Type is for reserve, release and preempt.
	Type Type
	// Persist asks that keys survive the target's loss of power (APTPL).
	Persist bool
}

// Reservations is what a LUN holds at one generation.
type Reservations struct {
	// Generation is PRGENERATION: raised by each register, clear and
	// preempt, zero after the target has restarted.
	Generation uint32
	// Keys lists each registration once per nexus, so a key can repeat.
	Keys []Key
	// Holder is the key of the reservation's holder; zero with Type set for
	// the all-registrants types, which Quorate does not use.
	Holder Key
	// Type is zero where there is no reservation.
	Type Type
}

// Has tells whether k is registered.
func (r Reservations) Has(k Key) bool {
	for _, have := range r.Keys {
		if have == k {
			return true
		}
	}
	return false
}

// Capabilities is what a target says, and shows, that it can do.
type Capabilities struct {
	// Reservations: PERSISTENT RESERVE IN and OUT answer.
	Reservations bool
	// Persist: keys survive the target's restart (APTPL).
	Persist bool
	// PreemptAbort: PREEMPT AND ABORT is supported.
	PreemptAbort bool
	// Types are the reservation types that the target says it supports; all
	// of SPC-4's where it does not say.
	Types []Type
	// WriteCache: the unit has a volatile write cache, so Flush is needed.
	WriteCache bool
	// FUA: WRITE with FUA is accepted (DPOFUA).
	FUA bool
}

// Errors that callers branch on. Everything else is wrapped text.
var (
	// ErrConflict is RESERVATION CONFLICT: the command was not performed,
	// because another node's reservation forbids it. Whoever gets it was
	// fenced, or never admitted, and must not register again by itself.
	ErrConflict = errors.New("reservation conflict")
	// ErrPathLost says that the session or the device is gone. Writes that
	// were in flight may or may not have happened.
	ErrPathLost = errors.New("path to the LUN lost")
	// ErrUnsupported says that the target does not know the command.
	ErrUnsupported = errors.New("not supported by the target")
	// ErrClosed says that the device was closed by its user.
	ErrClosed = errors.New("device closed")
)

// Uncertain tells whether a write that ended with err may have been performed, or may
// still be: its answer is missing, and nothing says that it was refused.
func Uncertain(err error) bool {
	var sense *SenseError
	var attention *AttentionError
	return err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrFenced) && !errors.As(err, &sense) && !errors.As(err, &attention)
}

// AttentionError is UNIT ATTENTION: the command was not performed, and the
// state of the LUN may have changed. A new session reports it once, as 29/00,
// even where the target does not.
type AttentionError struct{ ASC, ASCQ byte }

func (e *AttentionError) Error() string {
	return fmt.Sprintf("unit attention %02x/%02x", e.ASC, e.ASCQ)
}

// Reservation tells whether the attention may mean that keys or reservation
// changed (29/xx after a reset or restart, 2a/03 to 2a/05).
func (e *AttentionError) Reservation() bool {
	return e.ASC == 0x29 || (e.ASC == 0x2a && e.ASCQ >= 0x03 && e.ASCQ <= 0x05)
}

// SenseError is any other CHECK CONDITION (SPC-4 4.5).
type SenseError struct{ Key, ASC, ASCQ byte }

func (e *SenseError) Error() string {
	return fmt.Sprintf("sense key %x, %02x/%02x", e.Key, e.ASC, e.ASCQ)
}
