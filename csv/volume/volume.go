package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"quorate/disk"
)

// ErrSuperseded says that a coordinator of a later epoch has opened the volume.
var ErrSuperseded = errors.New("the volume was taken over by a later coordinator")

// Volume is an open volume, held by its coordinator.
type Volume struct {
	dev   disk.Device
	label Label
	epoch uint64

	tree  *tree
	space *space

	// gen is the generation of the last root that is on the LUN.
	gen uint64
	// index are the blocks that the last root's index lies in.
	index []uint64

	// log is where the journal stands.
	log journal
	// txn holds the changes that are in memory and in no record yet; marks
	// are the ends of whole operations in it.
	txn   []byte
	marks []int
	// freed are blocks that the changes in txn have freed.
	freed []run
	// ordered tells that changes in txn make file data visible that was written
	// before them, and may be in the LUN's cache.
	ordered bool
}

// Open reads the volume on dev, replays its journal, and makes the caller its
// writer by writing a root with its epoch. It is called only when no earlier
// coordinator can write any more. It returns ErrNotVolume, ErrSuperseded, or an
// error that says what is damaged.
func Open(ctx context.Context, dev disk.Device, epoch uint64) (*Volume, error) {
	l, err := ReadLabel(ctx, dev)
	if err != nil {
		return nil, fmt.Errorf("open the volume on %s: %w", dev.Info().URL, err)
	}
	v := &Volume{dev: dev, label: l, space: newSpace(l)}
	if err := v.load(ctx, epoch); err != nil {
		return nil, fmt.Errorf("open volume %q on %s: %w", l.Name, dev.Info().URL, err)
	}
	v.epoch = epoch
	if err := v.Checkpoint(ctx); err != nil {
		return nil, fmt.Errorf("open volume %q on %s: %w", l.Name, dev.Info().URL, err)
	}
	return v, nil
}

func (v *Volume) load(ctx context.Context, epoch uint64) error {
	r, err := v.readRoot(ctx)
	if err != nil {
		return err
	}
	if r.epoch > epoch {
		return fmt.Errorf("%w: epoch %d on the LUN, %d asked for", ErrSuperseded, r.epoch, epoch)
	}
	if err := v.readTree(ctx, r); err != nil {
		return err
	}
	if err := v.replay(ctx, r, epoch); err != nil {
		return err
	}
	return v.countSpace()
}

// countSpace finds out what is in use from the tree itself.
func (v *Volume) countSpace() error {
	for _, b := range v.index {
		if err := v.space.take(run{b, 1}); err != nil {
			return err
		}
	}
	for _, b := range v.tree.dropped {
		if err := v.space.take(run{b, 1}); err != nil {
			return err
		}
	}
	for _, l := range v.tree.leaves {
		if l.block != 0 {
			if err := v.space.take(run{l.block, 1}); err != nil {
				return err
			}
		}
	}
	var fault error
	v.tree.ascend(prefixExtent, func(key string, val []byte) bool {
		ino, e, err := decodeExtent(key, val)
		if !strings.HasPrefix(key, prefixExtent) {
			return false
		}
		if err == nil {
			err = v.space.take(run{e.Phys, uint64(e.N)})
		}
		if err != nil {
			fault = fmt.Errorf("extents of inode %d: %w", ino, err)
		}
		return fault == nil
	})
	return fault
}

// Label returns what the volume is.
func (v *Volume) Label() Label { return v.label }

// Epoch returns the epoch that the volume was opened with.
func (v *Volume) Epoch() uint64 { return v.epoch }

// Usage is how full a volume is, in bytes. Used counts files and metadata; what is
// neither Used nor Free is kept for metadata.
type Usage struct{ Size, Used, Free int64 }

// Usage returns how full the volume is.
func (v *Volume) Usage() Usage {
	total, free := int64(v.space.total-v.space.fixed), int64(v.space.free)
	forFiles := max(0, free-int64(v.kept()))
	return Usage{Size: total * BlockSize, Used: (total - free) * BlockSize, Free: forFiles * BlockSize}
}

// put and del change the tree and note the change for the journal.
func (v *Volume) put(key string, val []byte) {
	v.tree.put(key, val)
	v.txn = append(v.txn, opPut)
	v.txn = putString(v.txn, key)
	v.txn = putBytes(v.txn, val)
}

func (v *Volume) del(key string) {
	v.tree.del(key)
	v.txn = append(v.txn, opDel)
	v.txn = putString(v.txn, key)
}

// end marks the end of an operation: what is between two marks is made durable
// as a whole.
func (v *Volume) end() {
	if n := len(v.marks); n > 0 && v.marks[n-1] == len(v.txn) || len(v.txn) == 0 {
		return
	}
	v.marks = append(v.marks, len(v.txn))
}

// dropPending forgets what a checkpoint has made durable.
func (v *Volume) dropPending() {
	v.txn, v.marks, v.ordered = nil, nil, false
	for _, r := range v.freed {
		v.space.release(r)
	}
	v.freed = nil
}

// session names the session to the LUN that is there now, 0 where it has none. A
// target that restarts between a write and its flush may lose the write, and then
// answer the flush on the next session.
func (v *Volume) session() uint64 {
	if s, ok := v.dev.(disk.Sessioned); ok {
		return s.Session()
	}
	return 0
}

// errSession says that what was written cannot be trusted to be durable.
var errSession = fmt.Errorf("the session to the LUN changed before the flush: %w", disk.ErrPathLost)
