package witness

import (
	"context"
	"errors"
	"testing"
	"time"

	"quorate/disk"
	"quorate/disk/iscsi"
	"quorate/quorum"
	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

const iqn = "iqn.2026-11.test.quorate:witness"

func login(t *testing.T, portal, node string) disk.LUN {
	t.Helper()
	l, err := iscsi.Open(t.Context(), iscsi.Options{
		URL: "iscsi://" + portal + "/" + iqn + "/1", InitiatorName: "iqn.2026-11.test.quorate:" + node, Purpose: "witness", Timeout: 3 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestWokenHostOnTgt: on a real target, a host that stood still and wakes has its
// session still, tries to write wherever it may, and writes not one block.
func TestWokenHostOnTgt(t *testing.T) {
	_, portal := tgttest.Start(t, tgt.Options{IQN: iqn, LUNs: []tgt.LUN{{Number: 1, Name: "Q", Size: 128 << 20, ID: "51000001", Serial: "Q0001"}}})
	ctx := t.Context()
	one, two := login(t, portal, "s1"), login(t, portal, "s2")
	if err := Format(ctx, one, cluster, 0, false); err != nil {
		t.Fatal(err)
	}
	woken, err := take(ctx, OnLUN(one, cluster), Options{ClusterID: cluster, Node: 1, Clock: realClock{}}, quorum.Beat{}, quorum.Decision{})
	if err != nil {
		t.Fatal(err)
	}
	now, err := take(ctx, OnLUN(two, cluster), Options{ClusterID: cluster, Node: 2, Clock: realClock{}}, woken.beat, quorum.Decision{Challenged: true})
	if err != nil {
		t.Fatal(err)
	}
	if !now.challenged {
		t.Error("it was silent, and does not count as silent")
	}
	size := int(logOffset + 64*blockSize)
	before, after := make([]byte, size), make([]byte, size)
	if err := two.ReadAt(ctx, before, 0); err != nil {
		t.Fatal(err)
	}
	if err := woken.confirm(ctx, time.Second); err == nil {
		t.Fatal("the former host's voter may speak")
	}
	for off := 0; off < size; off += 16 * blockSize {
		if err := retried(func() error { return one.WriteAt(ctx, make([]byte, blockSize), int64(off)) }); !errors.Is(err, disk.ErrConflict) {
			t.Fatalf("a write at %d: %v", off, err)
		}
	}
	if err := two.ReadAt(ctx, after, 0); err != nil {
		t.Fatal(err)
	}
	if string(before) != string(after) {
		t.Fatal("something was written")
	}
	if err := now.confirm(context.Background(), time.Second); err != nil {
		t.Fatal(err)
	}
}
