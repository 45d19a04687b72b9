package handover

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"quorate/csv"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestNextProcessFindsWhatIsOpen: whatever was noted is there when the file is opened
// again, and the file does not grow with what is over.
func TestNextProcessFindsWhatIsOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("nothing is there: %v", err)
	}
	h, err := Create(path)
	must(t, err)
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := range 3 * slack {
		fh, ino := uint64(rnd.IntN(40)), uint64(2+rnd.IntN(10))
		switch rnd.IntN(8) {
		case 0:
			h.Opened(fh, ino, uint64(n))
		case 1:
			h.Closed(fh)
		case 2:
			h.Owner(fh, ino)
		case 3, 4:
			from := rnd.Int64N(1000)
			h.Locked(csv.Lock{
				Ino: ino, Class: csv.Class(rnd.IntN(2)), Type: csv.LockType(rnd.IntN(3)), Owner: csv.Owner{Owner: fh},
				Start: from, End: from + rnd.Int64N(100), PID: 7,
			})
		case 5, 6:
			noteWrite(h, rnd, ino)
		default:
			h.Unlocked(ino, fh)
		}
		if n%5000 == 17 {
			next, err := Open(path)
			must(t, err)
			if !reflect.DeepEqual(next.Handles(), h.Handles()) || !reflect.DeepEqual(next.Locks(), h.Locks()) ||
				!reflect.DeepEqual(next.Unrecorded(), h.Unrecorded()) {
				t.Fatalf("after %d changes the next process finds something else", n)
			}
			must(t, h.Close())
			h = next
		}
	}
	st, err := os.Stat(path)
	must(t, err)
	if st.Size() > 2*slack*recordSize {
		t.Fatalf("the file has %d bytes", st.Size())
	}
	h.Remove()
	if _, err := Open(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("after the end: %v", err)
	}
}

// noteWrite notes that a file was written to, or that this is recorded.
func noteWrite(h *File, rnd *rand.Rand, ino uint64) {
	batch := uint64(rnd.IntN(8))
	if rnd.IntN(3) == 0 {
		h.Recorded(ino, batch)
		return
	}
	at := rnd.Uint64N(16)
	h.Written(batch, csv.Written{Ino: ino, File: at, Phys: 100 + at, N: uint32(rnd.IntN(3)), Size: rnd.Int64N(1 << 20), Mtime: rnd.Int64()})
}

// TestWhatIsNotRecordedOutlivesAProcess: batches go when they are recorded, and what was
// written one after the other is one.
func TestWhatIsNotRecordedOutlivesAProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	h, err := Create(path)
	must(t, err)
	h.Written(1, csv.Written{Ino: 7, File: 0, Phys: 50, N: 2, Size: 90000, Mtime: 1})
	h.Written(1, csv.Written{Ino: 7, File: 2, Phys: 52, N: 1, Mtime: 2})
	h.Written(1, csv.Written{Ino: 7, Size: 190000, Mtime: 3})
	h.Written(2, csv.Written{Ino: 7, File: 9, Phys: 80, N: 1, Mtime: 4})
	h.Written(3, csv.Written{Ino: 8, Size: 5, Mtime: 5})
	first := []csv.Written{{Ino: 7, File: 0, Phys: 50, N: 3, Size: 190000, Mtime: 3}}
	rest := []csv.Written{{Ino: 7, File: 9, Phys: 80, N: 1, Mtime: 4}, {Ino: 8, Size: 5, Mtime: 5}}
	for _, want := range [][]csv.Written{append(first, rest...), rest} {
		must(t, h.Close())
		if h, err = Open(path); err != nil {
			t.Fatal(err)
		}
		if got := h.Unrecorded(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%+v, should be %+v", got, want)
		}
		h.Recorded(7, 1)
	}
}
