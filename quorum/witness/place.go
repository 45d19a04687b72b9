package witness

import (
	"context"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
)

// Place is where a witness lies, as one node has it open. What makes a place fit for
// one is that Take shuts a former host out, whatever that one does later.
type Place interface {
	// ReadHead fills p with label and heartbeat block, whoever holds the place, and
	// past all caches.
	ReadHead(ctx context.Context, p []byte) error
	// Take makes this node the holder: from here on WriteHead of a former one fails.
	// It fails with disk.ErrConflict where the former one cannot be shut out (yet).
	Take(ctx context.Context, next quorum.Beat) (Held, error)
	// Close ends the use of the place. Whoever holds it holds it no more.
	Close() error
}

// Held is a place that this node has taken.
type Held interface {
	// WriteHead writes at off, within the head. It fails where the place was taken
	// by another meanwhile; after any error it is not known whether it was written.
	WriteHead(ctx context.Context, p []byte, off int64) error
	// Flush makes what was written to the head durable.
	Flush(ctx context.Context) error
	// Log is the log of the voter for the tenure that begins with next, with all
	// that the voter kept in the one that ended with last.
	Log(ctx context.Context, voter uint64, last, next quorum.Beat) (Log, error)
	// Release lets the place go.
	Release(ctx context.Context) error
}

// Log is where a voter's log lies.
type Log struct {
	Device  disk.Device
	Journal journal.Options
}
