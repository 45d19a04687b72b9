// Package witness carries out the arbitration of the witness: one node at a time
// hosts the voter whose log lies at the witness's place, a LUN (lun.go) or a folder on
// a share (share.go). A host holds the place, moves a counter in the heartbeat block,
// and runs the voter, which says nothing that the block has not confirmed. The others
// read the block, and take the place from a host that stands still (package quorum
// decides when).
//
// It is called by cluster/node, which gives it the place and the voter to run. It
// knows nothing of raft.
//
// The head of a place: a label at 0, the heartbeat block at 4096. On a LUN the voter's
// log (disk/journal) lies from 1 MiB on; on a share each generation has a file.
//
// Traps: the log is read only after the old host can write no more that counts. Each
// takeover has its own generation. On any error the host ends the voter and begins
// again from the place: what a failed write did is unknown.
package witness

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
)

// Where things lie, in bytes.
const (
	blockSize   = 4096
	labelOffset = 0
	beatOffset  = 4096
	logOffset   = 1 << 20
	maxLogSize  = 128 << 20
)

const (
	labelMagic = "QRTWITN1"
	beatMagic  = "QRTBEAT1"
)

// ErrSuperseded says that the LUN is of a higher incarnation of the cluster: quorum
// was forced by others, and this node's state is of before.
var ErrSuperseded = errors.New("the witness is of a later incarnation of the cluster: quorum was forced")

// ErrLater says that a later witness of the cluster lives at the place, and that this
// node has yet to hear of it. It must not take the place: its voter finds no log there,
// and would begin one over the later one's.
var ErrLater = errors.New("a later witness of the cluster lives here, of which this node has not heard yet")

// ErrForeign says that the LUN holds something that is not this cluster's.
var ErrForeign = errors.New("the place holds something else")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// JournalOptions says where on a LUN the log of a voter lies.
func JournalOptions(info disk.Info, clusterID string, voter uint64) journal.Options {
	size := min(info.Size-logOffset, maxLogSize) / blockSize * blockSize
	return journal.Options{Offset: logOffset, Size: size, Owner: owner(clusterID, voter)}
}

// owner names a voter's log. Two incarnations of a cluster may have a voter of one
// number each; see anew.
func owner(clusterID string, voter uint64) string { return fmt.Sprintf("%s/%d", clusterID, voter) }

// nobody is the voter that a log belongs to which is nobody's.
const nobody = 0

// Key is the reservation key of one takeover: cluster, node and generation.
func Key(clusterID string, node, generation uint64) disk.Key {
	tag := crc32.Checksum([]byte(clusterID), castagnoli)
	return disk.Key(uint64(tag)<<32 | (node&0xffff)<<16 | generation&0xffff)
}

// Format makes a LUN the witness of a cluster. A LUN that holds anything else is
// refused with ErrForeign, unless force is given.
func Format(ctx context.Context, lun disk.LUN, clusterID string, incarnation uint64, force bool) error {
	if _, err := Free(ctx, lun, clusterID); err != nil && (!force || !errors.Is(err, ErrForeign)) {
		return err
	}
	head := make([]byte, logOffset)
	copy(head[labelOffset:], encodeLabel(clusterID, incarnation))
	copy(head[beatOffset:], encodeBeat(quorum.Beat{}))
	if err := retried(func() error { return lun.WriteAt(ctx, head, 0) }); err != nil {
		return fmt.Errorf("label the witness LUN %s: %w", lun.Info().URL, err)
	}
	return retried(func() error { return lun.Flush(ctx) })
}

// Free refuses a LUN that holds anything but an old witness of this cluster, with
// ErrForeign; was tells that it holds one.
func Free(ctx context.Context, lun disk.LUN, clusterID string) (was bool, err error) {
	head := make([]byte, logOffset)
	if err := retried(func() error { return lun.ReadAt(ctx, head, 0) }); err != nil {
		return false, fmt.Errorf("read the witness LUN %s: %w", lun.Info().URL, err)
	}
	owner, _, labelled := decodeLabel(head)
	switch {
	case labelled && owner == clusterID:
		return true, nil
	case labelled:
		return false, fmt.Errorf("make %s the witness: %w: it is the witness of cluster %s; evict it there, or use --force if that cluster is gone", lun.Info().URL, ErrForeign, owner)
	case len(bytes.Trim(head, "\x00")) != 0:
		return false, fmt.Errorf("make %s the witness: %w: its first megabyte is not empty; use --force to overwrite it", lun.Info().URL, ErrForeign)
	}
	return false, nil
}

// Clear removes every key from a LUN and empties its beginning, whoever's it was.
func Clear(ctx context.Context, lun disk.LUN, own disk.Key) error {
	for _, r := range []disk.ReserveOut{{Action: disk.RegisterIgnore, ServiceKey: own}, {Action: disk.Clear, Key: own}} {
		if err := retried(func() error { return lun.Reserve(ctx, r) }); err != nil {
			return err
		}
	}
	return retried(func() error { return lun.WriteAt(ctx, make([]byte, logOffset), 0) })
}

// incarnationAt is where the cluster's incarnation lies in the label.
const incarnationAt = 1024

func encodeLabel(clusterID string, incarnation uint64) []byte {
	b := make([]byte, blockSize)
	copy(b, labelMagic)
	b[12] = byte(len(clusterID))
	copy(b[13:], clusterID)
	binary.LittleEndian.PutUint64(b[incarnationAt:], incarnation)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[12:], castagnoli))
	return b
}

func decodeLabel(b []byte) (clusterID string, incarnation uint64, ok bool) {
	if string(b[:8]) != labelMagic || binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[12:blockSize], castagnoli) {
		return "", 0, false
	}
	return string(b[13:][:b[12]]), binary.LittleEndian.Uint64(b[incarnationAt:]), true
}

func encodeBeat(beat quorum.Beat) []byte {
	b := make([]byte, blockSize)
	copy(b, beatMagic)
	binary.LittleEndian.PutUint64(b[16:], beat.Generation)
	binary.LittleEndian.PutUint64(b[24:], beat.Host)
	binary.LittleEndian.PutUint64(b[32:], beat.Counter)
	if beat.Released {
		b[40] = 1
	}
	binary.LittleEndian.PutUint64(b[48:], beat.Voter)
	binary.LittleEndian.PutUint64(b[56:], beat.Incarnation)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b[16:], castagnoli))
	return b
}

func decodeBeat(b []byte) (quorum.Beat, error) {
	if string(b[:8]) != beatMagic || binary.LittleEndian.Uint32(b[8:]) != crc32.Checksum(b[16:blockSize], castagnoli) {
		return quorum.Beat{}, fmt.Errorf("the heartbeat block is damaged")
	}
	return quorum.Beat{
		Generation: binary.LittleEndian.Uint64(b[16:]), Host: binary.LittleEndian.Uint64(b[24:]),
		Counter: binary.LittleEndian.Uint64(b[32:]), Released: b[40] == 1,
		Voter: binary.LittleEndian.Uint64(b[48:]), Incarnation: binary.LittleEndian.Uint64(b[56:]),
	}, nil
}

// attentions bounds how often a command is repeated after a UNIT ATTENTION.
const attentions = 4

// retried repeats a command that a UNIT ATTENTION kept from being performed.
func retried(do func() error) error {
	var err error
	for range attentions {
		var ua *disk.AttentionError
		if err = do(); !errors.As(err, &ua) {
			return err
		}
	}
	return err
}

// readHead reads label and heartbeat, and refuses a place that is not clusterID's, or
// is of a later incarnation. old tells that it is of an earlier one.
func readHead(ctx context.Context, place Place, clusterID string, incarnation uint64) (beat quorum.Beat, old bool, err error) {
	b := make([]byte, 2*blockSize)
	if err := place.ReadHead(ctx, b); err != nil {
		return quorum.Beat{}, false, err
	}
	owner, has, ok := decodeLabel(b[labelOffset:])
	switch {
	case !ok:
		return quorum.Beat{}, false, fmt.Errorf("%w: it bears no witness label", ErrForeign)
	case owner != clusterID:
		return quorum.Beat{}, false, fmt.Errorf("%w: it is the witness of cluster %s", ErrForeign, owner)
	case has > incarnation:
		return quorum.Beat{}, false, fmt.Errorf("%w: incarnation %d, and this node has %d", ErrSuperseded, has, incarnation)
	}
	beat, err = decodeBeat(b[beatOffset:])
	return beat, has < incarnation, err
}
