// Package open opens a LUN by its name: iscsi://host:port/target/lun through the
// userspace initiator, /dev/... through the kernel, file:///path as a stand-in
// for tests.
//
// It is called where a LUN's name comes from the database or an operator. It is
// the one place that knows every kind of disk.
//
// Traps: a file has no reservations of a real target's kind; what stands behind
// file:// is unguarded, for one process only.
package open

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/block"
	"quorate/disk/file"
	"quorate/disk/iscsi"
)

// Options are for all kinds; each takes what it needs.
type Options struct {
	// InitiatorName, Purpose and CHAP are for iscsi://.
	InitiatorName, Purpose string
	CHAP                   iscsi.CHAP
	// Timeout is how long a command may go unanswered before the path is
	// taken for lost. Zero means the kind's default.
	Timeout time.Duration
	// FileSize is what a file:// is made with where it is not there, in
	// bytes.
	FileSize int64
	Log      *zap.Logger
}

// Open opens the LUN of that name. A name of a kind that is not known is an
// error that lists the kinds.
func Open(ctx context.Context, name string, o Options) (disk.LUN, error) {
	switch {
	case strings.HasPrefix(name, "iscsi://"):
		return iscsi.Open(ctx, iscsi.Options{
			URL: name, InitiatorName: o.InitiatorName, Purpose: o.Purpose, CHAP: o.CHAP, Timeout: o.Timeout, Log: o.Log,
		})
	case strings.HasPrefix(name, "/dev/"):
		return block.Open(ctx, name, block.Options{Timeout: o.Timeout})
	case strings.HasPrefix(name, "file:///"):
		d, err := file.Open(strings.TrimPrefix(name, "file://"), o.FileSize)
		if err != nil {
			return nil, err
		}
		return unreserved{d}, nil
	}
	return nil, fmt.Errorf("open disk %q: its name begins with none of iscsi://, /dev/ and file:///", name)
}

// unreserved is a device that has no reservations.
type unreserved struct{ disk.Device }

func (u unreserved) none() error {
	return fmt.Errorf("%s is a file and has no reservations: %w", u.Info().URL, disk.ErrUnsupported)
}

func (u unreserved) Reservations(context.Context) (disk.Reservations, error) {
	return disk.Reservations{}, u.none()
}
func (u unreserved) Reserve(context.Context, disk.ReserveOut) error { return u.none() }
func (u unreserved) ResetUnit(context.Context) error                { return u.none() }
func (u unreserved) Capabilities(context.Context) (disk.Capabilities, error) {
	return disk.Capabilities{WriteCache: true}, nil
}
