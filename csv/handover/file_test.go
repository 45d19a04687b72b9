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
		switch rnd.IntN(6) {
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
		default:
			h.Unlocked(ino, fh)
		}
		if n%5000 == 17 {
			next, err := Open(path)
			must(t, err)
			if !reflect.DeepEqual(next.Handles(), h.Handles()) || !reflect.DeepEqual(next.Locks(), h.Locks()) {
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
