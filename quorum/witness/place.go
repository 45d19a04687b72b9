package witness

import (
	"context"
	"fmt"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/internal/mutant"
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
	// that the voter kept in the one that ended with last; see anew.
	Log(ctx context.Context, voter uint64, last, next quorum.Beat) (Log, error)
	// Release lets the place go.
	Release(ctx context.Context) error
}

// Log is where a voter's log lies.
type Log struct {
	Device  disk.Device
	Journal journal.Options
}

// anew tells that whatever log lies at a place is another's, so that the tenure that
// begins with next has none: nobody was its host since it was made the witness, or the
// last host was of another incarnation of the cluster. That one may have had a voter of
// the same number: where quorum is forced on two nodes, each on its own copy, both
// count on from what they know. The place bears the new incarnation's label by now, so
// that nobody comes back for the log that goes.
func anew(last, next quorum.Beat) bool {
	return last.Generation == 0 || last.Incarnation != next.Incarnation && !mutant.On("log of another incarnation")
}

// empty makes a log nobody's, before the first heartbeat of the tenure says that
// it is the voter's.
func empty(ctx context.Context, l Log) error {
	if _, err := journal.Create(ctx, l.Device, l.Journal, nil); err != nil {
		return fmt.Errorf("empty the witness's log: %w", err)
	}
	return nil
}
