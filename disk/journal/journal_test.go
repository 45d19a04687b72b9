package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"quorate/disk"
)

var opt = Options{Offset: 8192, Size: MinSize, Owner: "cluster-1/node-1"}

func memory() disk.Device { return disk.NewMemory(4<<20, 512).Nexus("n") }

func TestAppendedRecordsAreReadAgain(t *testing.T) {
	ctx, dev := context.Background(), memory()
	j, err := Create(ctx, dev, opt, []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	var want [][]byte
	for i := range 5 {
		rec := bytes.Repeat([]byte{byte(i)}, i*3000)
		if err := j.Append(ctx, rec); err != nil {
			t.Fatal(err)
		}
		want = append(want, rec)
	}
	check(t, dev, "first", want)
	if err := j.Compact(ctx, []byte("second"), want[4:]); err != nil {
		t.Fatal(err)
	}
	check(t, dev, "second", want[4:])
	if err := j.Append(ctx, []byte("x")); err != nil {
		t.Fatal(err)
	}
	check(t, dev, "second", [][]byte{want[4], []byte("x")})
}

func check(t *testing.T, dev disk.Device, snapshot string, want [][]byte) {
	t.Helper()
	_, c, err := Open(context.Background(), dev, opt)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Snapshot) != snapshot || len(c.Records) != len(want) {
		t.Fatalf("snapshot %q with %d records, want %q with %d", c.Snapshot, len(c.Records), snapshot, len(want))
	}
	for i := range want {
		if !bytes.Equal(c.Records[i], want[i]) {
			t.Fatalf("record %d differs", i)
		}
	}
}

func TestFullJournalSaysSoAndCompacts(t *testing.T) {
	ctx, dev := context.Background(), memory()
	j, err := Create(ctx, dev, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		err = j.Append(ctx, make([]byte, 100_000))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	if err := j.Compact(ctx, []byte("s"), nil); err != nil {
		t.Fatal(err)
	}
	if err := j.Append(ctx, []byte("r")); err != nil {
		t.Fatal(err)
	}
	check(t, dev, "s", [][]byte{[]byte("r")})
}

// TestLargeSnapshotIsNotCompactedAgain: where the snapshot takes the most of an area, it
// is not full as soon as it begins, neither when it is opened again.
func TestLargeSnapshotIsNotCompactedAgain(t *testing.T) {
	ctx, dev := context.Background(), memory()
	j, err := Create(ctx, dev, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Compact(ctx, make([]byte, j.areaSize()*3/4), nil); err != nil {
		t.Fatal(err)
	}
	open := func() *Journal {
		t.Helper()
		j, _, err := Open(ctx, dev, opt)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	if a, b := j.Used(), open().Used(); a > 0.1 || b > 0.1 {
		t.Fatalf("%v is used, and %v when it is opened again", a, b)
	}
	for range int(j.areaSize() / 4 * 3 / 4 / blockSize) {
		if err := j.Append(ctx, make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if a, b := j.Used(), open().Used(); a < 0.5 || b < 0.5 {
		t.Fatalf("%v is used, and %v when it is opened again", a, b)
	}
}

func TestForeignAndDamaged(t *testing.T) {
	ctx, dev := context.Background(), memory()
	if _, _, err := Open(ctx, dev, opt); !errors.Is(err, ErrForeign) {
		t.Fatalf("blank: %v", err)
	}
	j, err := Create(ctx, dev, opt, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	other := opt
	other.Owner = "cluster-2"
	if _, _, err := Open(ctx, dev, other); !errors.Is(err, ErrForeign) {
		t.Fatalf("another's: %v", err)
	}
	for i := range 3 {
		if err := j.Append(ctx, []byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
	}
	// Damage the first of three records: the two behind it were durable.
	if err := dev.WriteAt(ctx, make([]byte, blockSize), j.areaOffset(j.seq)+blockSize); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(ctx, dev, opt); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("damaged: %v", err)
	}
}

func TestFailedWriteBreaksTheJournal(t *testing.T) {
	ctx := context.Background()
	boom := errors.New("boom")
	fail := false
	dev := disk.NewFaulty(disk.NewMemory(4<<20, 512).Nexus("n"), func(op disk.Op) error {
		if fail && op.Kind == disk.OpWrite {
			return boom
		}
		return nil
	})
	j, err := Create(ctx, dev, opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	fail = true
	if err := j.Append(ctx, []byte("r")); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	fail = false
	if err := j.Append(ctx, []byte("r")); !errors.Is(err, ErrBroken) {
		t.Fatal(err)
	}
}

// TestCrashesLoseNothingAcknowledged crashes a journal at random moments, with
// unsynced writes lost, torn or reordered, and compares it with a list.
func TestCrashesLoseNothingAcknowledged(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { crashRun(t, seed) })
	}
}

func crashRun(t *testing.T, seed uint64) {
	ctx := context.Background()
	r := rand.New(rand.NewPCG(seed, 1))
	left := -1 // writes until the power goes
	mem := disk.NewMemory(4<<20, 512)
	crashing := disk.NewCrashing(mem.Nexus("n"), seed)
	dying := func(c *disk.Crashing) disk.Device { return &limited{Device: c, left: &left} }
	j, err := Create(ctx, dying(crashing), opt, []byte("snap"))
	if err != nil {
		t.Fatal(err)
	}
	snapshot, acked := []byte("snap"), [][]byte(nil)
	for range 12 {
		left = r.IntN(30)
		var pending []byte
		var pendingSnap bool
		for {
			rec := make([]byte, r.IntN(20_000))
			for i := range rec {
				rec[i] = byte(r.Uint32())
			}
			if pendingSnap = r.IntN(6) == 0 || j.Used() > 0.8; pendingSnap {
				pending = rec
				if err = j.Compact(ctx, rec, nil); err == nil {
					snapshot, acked = rec, nil
				}
			} else {
				pending = rec
				if err = j.Append(ctx, rec); err == nil {
					acked = append(acked, rec)
				}
			}
			if err != nil {
				break
			}
		}
		if crashing, err = crashing.Crash(ctx); err != nil {
			t.Fatal(err)
		}
		left = -1
		var c Contents
		if j, c, err = Open(ctx, dying(crashing), opt); err != nil {
			t.Fatal(err)
		}
		// What was under way may have happened whole.
		if pendingSnap && bytes.Equal(c.Snapshot, pending) && len(c.Records) == 0 {
			snapshot, acked = pending, nil
		} else if !pendingSnap && len(c.Records) == len(acked)+1 && bytes.Equal(c.Records[len(acked)], pending) {
			acked = append(acked, pending)
		}
		if !bytes.Equal(c.Snapshot, snapshot) || len(c.Records) != len(acked) {
			t.Fatalf("has %d records, want %d", len(c.Records), len(acked))
		}
		for i := range acked {
			if !bytes.Equal(acked[i], c.Records[i]) {
				t.Fatalf("record %d differs", i)
			}
		}
	}
}

// limited fails every write and flush after so many.
type limited struct {
	disk.Device
	left *int
}

var errPower = errors.New("power lost")

func (l *limited) spend() error {
	if *l.left == 0 {
		return errPower
	}
	if *l.left > 0 {
		*l.left--
	}
	return nil
}

func (l *limited) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := l.spend(); err != nil {
		return err
	}
	return l.Device.WriteAt(ctx, p, off)
}

func (l *limited) Flush(ctx context.Context) error {
	if err := l.spend(); err != nil {
		return err
	}
	return l.Device.Flush(ctx)
}

func FuzzOpen(f *testing.F) {
	dev := memory()
	j, _ := Create(context.Background(), dev, opt, []byte("s"))
	j.Append(context.Background(), []byte("r"))
	img := make([]byte, 64<<10)
	dev.ReadAt(context.Background(), img, opt.Offset)
	f.Add(img, uint16(70), byte(1))
	f.Fuzz(func(_ *testing.T, img []byte, at uint16, flip byte) {
		dev := memory()
		img = bytes.Clone(img[:len(img)/512*512])
		if len(img) == 0 || len(img) > MinSize {
			return
		}
		img[int(at)%len(img)] ^= flip
		dev.WriteAt(context.Background(), img, opt.Offset)
		Open(context.Background(), dev, opt) // must not panic
	})
}

// TestNewJournalHasNothingOfTheOld: records of a journal that was there before are
// never taken for the new one's, though they lie where its own will.
func TestNewJournalHasNothingOfTheOld(t *testing.T) {
	ctx, dev := t.Context(), memory()
	old := opt
	old.Owner = "cluster-1/another"
	j, err := Create(ctx, dev, old, []byte("old"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		if err := j.Append(ctx, fmt.Appendf(nil, "old %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if j, err = Create(ctx, dev, opt, []byte("new")); err != nil {
			t.Fatal(err)
		}
		check(t, dev, "new", nil)
		if err := j.Append(ctx, []byte("x")); err != nil {
			t.Fatal(err)
		}
		check(t, dev, "new", [][]byte{[]byte("x")})
	}
	if _, _, err := Open(ctx, dev, old); !errors.Is(err, ErrForeign) {
		t.Fatal(err)
	}
}

// TestOpenedJournalIsDurable: a process dies between a write and its flush, the next
// one reads what it wrote from the disk's cache, and then the power fails: what was
// read is there.
func TestOpenedJournalIsDurable(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(50) {
		dev := disk.NewCrashing(memory(), seed)
		if _, err := Create(ctx, dev, opt, []byte("s")); err != nil {
			t.Fatal(err)
		}
		j, _, err := Open(ctx, dev, opt)
		if err != nil {
			t.Fatal(err)
		}
		record := bytes.Repeat([]byte{7}, 10_000)
		if err := dev.WriteAt(ctx, encode(nil, record, j.seq, j.index), j.areaOffset(j.seq)+j.pos); err != nil {
			t.Fatal(err)
		}
		_, seen, err := Open(ctx, dev, opt)
		if err != nil || len(seen.Records) != 1 {
			t.Fatalf("the next process reads %d records: %v", len(seen.Records), err)
		}
		after, err := dev.Crash(ctx)
		if err != nil {
			t.Fatal(err)
		}
		check(t, after, "s", [][]byte{record})
	}
}
