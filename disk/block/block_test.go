package block

import (
	"context"
	"errors"
	"testing"
	"unsafe"

	"quorate/disk"
)

func TestHeaderLayout(t *testing.T) {
	if size := unsafe.Sizeof(sgHeader{}); size != 88 {
		t.Fatalf("sg_io_hdr has %d bytes, 88 are due on 64 bits", size)
	}
}

func TestParseSense(t *testing.T) {
	fixed := make([]byte, 18)
	fixed[0], fixed[2], fixed[12], fixed[13] = 0x70, 6, 0x29, 0x01
	for name, b := range map[string][]byte{"fixed": fixed, "descriptor": {0x72, 6, 0x29, 0x01, 0, 0, 0, 0}} {
		if k, a, q := parseSense(b); k != 6 || a != 0x29 || q != 1 {
			t.Errorf("%s: %x %x %x", name, k, a, q)
		}
	}
	for n := range 18 {
		parseSense(fixed[:n])
	}
	parseSense([]byte{0xff})
}

func TestResult(t *testing.T) {
	h := sgHeader{hostStatus: 1}
	if _, err := h.result(nil, 0); !errors.Is(err, disk.ErrPathLost) {
		t.Error(err)
	}
	h = sgHeader{status: 2, senseLen: 200, residual: 5}
	if r, err := h.result(make([]byte, 64), 10); err != nil || r.Moved != 5 {
		t.Errorf("%+v %v", r, err)
	}
}

func TestNotADisk(t *testing.T) {
	ctx := context.Background()
	for _, path := range []string{"/dev/null", t.TempDir(), "/nonexistent"} {
		if l, err := Open(ctx, path, Options{}); err == nil {
			l.Close()
			t.Errorf("%s was taken for a SCSI disk", path)
		}
	}
	if _, err := Open(ctx, "/dev/null", Options{Timeout: 1}); err == nil {
		t.Error("a timeout of 1 ns was taken")
	}
}
