package guest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The counter's region; counter/main.go has the same numbers.
const (
	slotSize = 4096
	slots    = 4096
	magic    = "QUORATE1"
)

// Slots is how many of the latest numbers the region holds: with the next one the
// counter begins to write over what it wrote.
const Slots = slots

// Report is what a disk holds.
type Report struct {
	// Last is the greatest number on the disk, 0 if there is none.
	Last uint64
	// Records is how many slots were written.
	Records int
	// Boots counts the records of each start of the guest.
	Boots map[string]int
	// Faults says what is wrong: torn records, numbers that are missing.
	Faults []string
	// oldest is the smallest number that the region can still hold.
	oldest uint64
	sums   map[uint64]uint32
}

// Verify reads the counter's region of a disk image (raw, of Build's layout).
// The error is about reading; what is wrong with the content is in Faults.
func Verify(imagePath string) (Report, error) {
	f, err := os.Open(imagePath)
	if err != nil {
		return Report{}, fmt.Errorf("guest: %w", err)
	}
	defer f.Close()
	region := make([]byte, regionSize)
	if _, err := io.ReadFull(io.NewSectionReader(f, regionStart, regionSize), region); err != nil {
		return Report{}, fmt.Errorf("guest: %s has no counter's region: %w", imagePath, err)
	}
	return verify(region), nil
}

// verify judges a region.
func verify(region []byte) Report {
	r := Report{Boots: make(map[string]int), sums: make(map[uint64]uint32)}
	seqs := make([]uint64, slots)
	for i := range seqs {
		slot := region[i*slotSize:]
		if binary.LittleEndian.Uint64(slot) == 0 {
			continue
		}
		sum := crc32.ChecksumIEEE(slot[:32])
		if string(slot[:8]) != magic || sum != binary.LittleEndian.Uint32(slot[32:]) {
			r.Faults = append(r.Faults, fmt.Sprintf("slot %d holds no sound record", i))
			continue
		}
		seqs[i] = binary.LittleEndian.Uint64(slot[8:])
		r.sums[seqs[i]] = sum
		r.Last = max(r.Last, seqs[i])
		r.Records++
		r.Boots[hex.EncodeToString(slot[16:24])]++
	}
	if r.Last > slots {
		r.oldest = r.Last - slots + 1
	}
	for i, seq := range seqs {
		if want := newest(r.Last, uint64(i)); seq != want {
			r.Faults = append(r.Faults, fmt.Sprintf("slot %d holds number %d and should hold %d", i, seq, want))
		}
	}
	return r
}

// newest is the greatest number up to last that belongs into a slot, or 0.
func newest(last, slot uint64) uint64 {
	back := (last + slots - slot) % slots
	if back >= last {
		return 0
	}
	return last - back
}

// Lost lists what is wrong between what the guest acknowledged on its console
// and what its disk holds; nothing means that no acknowledged write was lost.
func Lost(c Console, r Report) []string {
	faults := append(append([]string(nil), r.Faults...), c.Faults...)
	for _, t := range c.Ticks {
		if t.Seq > r.Last {
			faults = append(faults, fmt.Sprintf("number %d was acknowledged; the disk ends at %d", t.Seq, r.Last))
			continue
		}
		if t.Seq < r.oldest {
			continue // written over since
		}
		if sum, ok := r.sums[t.Seq]; !ok || sum != t.Sum {
			faults = append(faults, fmt.Sprintf("number %d was acknowledged with checksum %08x; the disk has %08x", t.Seq, t.Sum, sum))
		}
	}
	return faults
}

// Behind lists what the guest acknowledged on its console and what its region, read
// while the guest goes on, does not have: each slot has the newest number that was
// acknowledged for it, or a later one. The console must have been read first.
func Behind(c Console, region []byte) ([]string, error) {
	if len(region) != regionSize {
		return nil, fmt.Errorf("guest: the region has %d bytes, not %d", len(region), regionSize)
	}
	faults := append([]string(nil), c.Faults...)
	newest := map[uint64]Tick{}
	for _, t := range c.Ticks {
		newest[t.Seq%slots] = t
	}
	for i, t := range newest {
		slot := region[i*slotSize:]
		seq, sum := binary.LittleEndian.Uint64(slot[8:]), crc32.ChecksumIEEE(slot[:32])
		switch {
		case string(slot[:8]) != magic || sum != binary.LittleEndian.Uint32(slot[32:]) || seq%slots != i:
			faults = append(faults, fmt.Sprintf("slot %d holds no sound record of its own, and should hold number %d", i, t.Seq))
		case seq < t.Seq:
			faults = append(faults, fmt.Sprintf("number %d was acknowledged; its slot holds %d", t.Seq, seq))
		case seq == t.Seq && sum != t.Sum:
			faults = append(faults, fmt.Sprintf("number %d was acknowledged with checksum %08x; the disk has %08x", t.Seq, t.Sum, sum))
		}
	}
	return faults, nil
}
