package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"quorate/disk"
)

// script answers each command from a list, whatever it was.
type script struct {
	results []Result
	data    [][]byte
	n       int
}

func (s *script) Do(_ context.Context, c Command) (Result, error) {
	if len(s.results) == 0 {
		return Result{}, disk.ErrPathLost
	}
	i := s.n % len(s.results)
	s.n++
	r := s.results[i]
	if c.Direction == In && i < len(s.data) {
		r.Moved = copy(c.Data, s.data[i])
	}
	return r, nil
}
func (s *script) ResetUnit(context.Context) error { return nil }
func (s *script) Close() error                    { return nil }

func TestRunTellsErrorsApart(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		r    Result
		want error
	}{
		{"conflict", Result{Status: 0x18}, disk.ErrConflict},
		{"unknown command", Result{Status: 2, Key: 5, ASC: 0x20}, disk.ErrUnsupported},
	} {
		if _, err := Run(ctx, &script{results: []Result{c.r}}, c.name, Command{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	var ua *disk.AttentionError
	if _, err := Run(ctx, &script{results: []Result{{Status: 2, Key: 6, ASC: 0x29}}}, "x", Command{}); !errors.As(err, &ua) {
		t.Errorf("29/00: %v", err)
	}
	if _, err := Run(ctx, &script{results: []Result{{Status: 0x40}}}, "x", Command{}); !errors.As(err, &ua) || !ua.Reservation() {
		t.Errorf("TASK ABORTED: %v", err)
	}
	// 3f/0e and BUSY are overcome.
	s := &script{results: []Result{{Status: 2, Key: 6, ASC: 0x3f, ASCQ: 0x0e}, {Status: 8}, {}}}
	if _, err := Run(ctx, s, "x", Command{}); err != nil || s.n != 3 {
		t.Errorf("%v after %d", err, s.n)
	}
	s = &script{results: []Result{{Status: 2, Key: 6, ASC: 0x3f, ASCQ: 0x0e}}}
	if _, err := Run(ctx, s, "x", Command{}); err == nil {
		t.Error("a unit attention for ever was taken for success")
	}
}

func TestReservationsAreReadAtOneGeneration(t *testing.T) {
	keys := make([]byte, 24)
	binary.BigEndian.PutUint32(keys, 5)
	binary.BigEndian.PutUint32(keys[4:], 16)
	binary.BigEndian.PutUint64(keys[8:], 0xa)
	binary.BigEndian.PutUint64(keys[16:], 0xb)
	held := make([]byte, 24)
	binary.BigEndian.PutUint32(held, 6)
	binary.BigEndian.PutUint32(held[4:], 16)
	binary.BigEndian.PutUint64(held[8:], 0xa)
	held[21] = 1
	s := &script{results: make([]Result, 2), data: [][]byte{keys, held}}
	if _, err := Reservations(context.Background(), s); err == nil {
		t.Error("two generations were taken for one")
	}
	binary.BigEndian.PutUint32(held, 5)
	r, err := Reservations(context.Background(), s)
	if err != nil || r.Holder != 0xa || r.Type != 1 || len(r.Keys) != 2 || r.Generation != 5 {
		t.Errorf("%+v %v", r, err)
	}
}

// TestNothingIsTrusted: whatever a target answers, there is no panic and no
// size that cannot be.
func TestNothingIsTrusted(t *testing.T) {
	ctx := context.Background()
	rapid.Check(t, func(t *rapid.T) {
		s := &script{}
		for range rapid.IntRange(1, 6).Draw(t, "answers") {
			s.results = append(s.results, Result{
				Status: rapid.SampledFrom([]byte{0, 0, 0, 2, 0x18}).Draw(t, "status"),
				Key:    rapid.SampledFrom([]byte{0, 5, 6}).Draw(t, "key"),
				ASC:    rapid.Byte().Draw(t, "asc"),
			})
			s.data = append(s.data, rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data"))
		}
		if info, _, err := Identify(ctx, s, "x"); err == nil && (info.Size <= 0 || info.Size%int64(info.BlockSize) != 0) {
			t.Fatalf("%+v", info)
		}
		_, _ = ReportLUNs(ctx, s)
		_, _ = Reservations(ctx, s)
		_, _ = Capabilities(ctx, s)
		_, _ = NewUnit(ctx, s, "x")
	})
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte{1, 3, 0, 8, 0x60, 1, 2, 3, 4, 5, 6, 7})
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := identity([]byte{1, 3, 0, 8, 0x60, 1, 2, 3, 4, 5, 6, 7}); got != "naa.6001020304050607" {
			t.Fatal(got)
		}
		_ = identity(b)
		_ = page(b, 0x83)
	})
}
