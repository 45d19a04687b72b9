package disk

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// TestFaultyLosesAnswers: an error before the operation keeps it from
// happening, one after it does not.
func TestFaultyLosesAnswers(t *testing.T) {
	ctx := context.Background()
	boom := errors.New("boom")
	var at bool
	f := NewFaulty(NewMemory(8*testBlock, testBlock), func(op Op) error {
		if op.Kind == OpWrite && op.Done == at {
			return boom
		}
		return nil
	})
	got := make([]byte, testBlock)
	for _, done := range []bool{false, true} {
		at = done
		if err := f.WriteAt(ctx, block('x'), 0); !errors.Is(err, boom) {
			t.Fatal(err)
		}
		must(t, f.ReadAt(ctx, got, 0))
		if bytes.Equal(got, block('x')) != done {
			t.Fatalf("failed with Done=%v: block holds %q", done, got[0])
		}
	}
	must(t, f.Flush(ctx))
	must(t, f.ResetUnit(ctx))
	if _, err := f.Reservations(ctx); err == nil {
		t.Fatal("the unit attention was lost on its way")
	}
	_, err := f.Capabilities(ctx)
	must(t, err)
	must(t, f.Close())
}

func crashTrial(t *testing.T, seed uint64) []byte {
	t.Helper()
	ctx := context.Background()
	c := NewCrashing(NewMemory(16*testBlock, testBlock), seed)
	must(t, c.WriteAt(ctx, bytes.Repeat([]byte{'1'}, 16*testBlock), 0))
	must(t, c.Flush(ctx))
	must(t, c.WriteAt(ctx, bytes.Repeat([]byte{'2'}, 8*testBlock), 0))
	must(t, c.WriteAt(ctx, bytes.Repeat([]byte{'3'}, 4*testBlock), 0))
	all := make([]byte, 16*testBlock)
	must(t, c.ReadAt(ctx, all, 0))
	if all[0] != '3' || all[5*testBlock] != '2' || all[9*testBlock] != '1' {
		t.Fatal("what was not flushed does not read back")
	}
	after, err := c.Crash(ctx)
	must(t, err)
	if err := c.WriteAt(ctx, block('4'), 0); !errors.Is(err, ErrPathLost) {
		t.Fatalf("write after the crash: %v", err)
	}
	must(t, after.ReadAt(ctx, all, 0))
	var seen []byte
	for i := range 16 {
		b := all[i*testBlock : (i+1)*testBlock]
		if !bytes.Equal(b, block(b[0])) {
			t.Fatalf("block %d is torn inside", i)
		}
		seen = append(seen, b[0])
	}
	return seen
}

// TestCrashingBySeed: a seed repeats, flushed blocks stay, and among the seeds
// there are crashes that lose all, nothing, and part with order turned round.
func TestCrashingBySeed(t *testing.T) {
	outcomes := map[string]bool{}
	for seed := range uint64(200) {
		seen := crashTrial(t, seed)
		if again := crashTrial(t, seed); !bytes.Equal(seen, again) {
			t.Fatalf("seed %d: %s, then %s", seed, seen, again)
		}
		if string(seen[8:]) != "11111111" {
			t.Fatalf("seed %d: flushed blocks became %s", seed, seen)
		}
		outcomes[string(seen)] = true
	}
	for _, want := range []string{"1111111111111111", "3333222211111111"} {
		if !outcomes[want] {
			t.Errorf("no seed gave %s", want)
		}
	}
	if len(outcomes) < 50 {
		t.Errorf("only %d outcomes", len(outcomes))
	}
}
