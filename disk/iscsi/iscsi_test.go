//go:build cgo

package iscsi

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/disk"
	"quorate/test/lab/tgt"
)

func TestDiscoverAndList(t *testing.T) {
	ctx := testContext(t)
	_, o := startTarget(t)
	targets, err := Discover(ctx, o.Portal, o)
	must(t, err)
	if len(targets) != 1 || targets[0].IQN != testIQN || len(targets[0].Portals) != 1 || targets[0].Portals[0] != o.Portal {
		t.Fatalf("%+v", targets)
	}
	infos, err := List(ctx, o)
	must(t, err)
	if len(infos) != 2 {
		t.Fatalf("%+v", infos)
	}
	q := infos[0]
	if q.Serial != "Q0001" || q.Size != 64<<20 || q.BlockSize != 512 || q.URL != URL(o.Portal, testIQN, 1) || q.ID == "" || q.ID == infos[1].ID {
		t.Fatalf("%+v", infos)
	}
	t.Logf("%+v", infos)
}

func TestReadWriteAndSplit(t *testing.T) {
	ctx := testContext(t)
	_, o := startTarget(t)
	l, err := Open(ctx, o)
	must(t, err)
	defer l.Close()
	want := make([]byte, 3<<20+512)
	_, _ = rand.Read(want)
	must(t, l.WriteAt(ctx, want, 512))
	must(t, l.Flush(ctx))
	got := make([]byte, len(want))
	must(t, l.ReadAt(ctx, got, 512))
	if !bytes.Equal(got, want) {
		t.Fatal("read back something else")
	}
	if err := l.WriteAt(ctx, want[:512], 64<<20); err == nil {
		t.Error("a write beyond the end was taken")
	}
	c, err := l.Capabilities(ctx)
	must(t, err)
	if !c.Reservations || c.Persist || c.PreemptAbort {
		t.Errorf("tgt has reservations, and neither APTPL nor PREEMPT AND ABORT: %+v", c)
	}
	t.Logf("%+v", c)
}

func TestManyAtOnce(t *testing.T) {
	ctx := testContext(t)
	_, o := startTarget(t)
	l, err := Open(ctx, o)
	must(t, err)
	defer l.Close()
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for i := range 64 {
		wg.Go(func() {
			b := bytes.Repeat([]byte{byte(i)}, 8192)
			got := make([]byte, 8192)
			for n := range 20 {
				off := int64(i*20+n) * 8192
				if err := errors.Join(l.WriteAt(ctx, b, off), l.ReadAt(ctx, got, off)); err != nil {
					errs <- err
					return
				}
				if !bytes.Equal(got, b) {
					errs <- errors.New("read back something else")
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}

func TestChap(t *testing.T) {
	ctx := testContext(t)
	_, o := startTarget(t, func(o *tgt.Options) { o.User, o.Password = "quorate", "a-long-password" })
	if l, err := Open(ctx, o); err == nil {
		l.Close()
		t.Fatal("logged in without a password")
	} else {
		t.Log(err)
	}
	o.CHAP = CHAP{User: "quorate", Password: "a-wrong-password"}
	if l, err := Open(ctx, o); err == nil {
		l.Close()
		t.Fatal("logged in with a wrong password")
	}
	o.CHAP.Password = "a-long-password"
	l, err := Open(ctx, o)
	must(t, err)
	must(t, l.Close())
	if err := l.Flush(ctx); !errors.Is(err, disk.ErrClosed) {
		t.Fatalf("after close: %v", err)
	}
}

// TestSessionIsMadeAgain: after the target's restart the first command says so,
// and a command bound to the session before is not performed.
func TestSessionIsMadeAgain(t *testing.T) {
	ctx := testContext(t)
	target, o := startTarget(t)
	l, err := Open(ctx, o)
	must(t, err)
	defer l.Close()
	b := bytes.Repeat([]byte{7}, 512)
	must(t, l.WriteAt(ctx, b, 0))
	old := l.(disk.Sessioned).Session()
	must(t, target.Restart(ctx))
	lostOrAttention := 0
	for {
		err := l.ReadAt(ctx, b, 0)
		if err == nil {
			break
		}
		var ua *disk.AttentionError
		switch {
		case errors.As(err, &ua):
			lostOrAttention |= 2
		case errors.Is(err, disk.ErrPathLost):
			lostOrAttention |= 1
		default:
			t.Fatal(err)
		}
	}
	if lostOrAttention&2 == 0 {
		t.Error("no unit attention after the restart")
	}
	if now := l.(disk.Sessioned).Session(); now == old {
		t.Errorf("session %d before and after", now)
	}
	var ua *disk.AttentionError
	if err := l.WriteAt(disk.OnSession(ctx, old), b, 0); !errors.As(err, &ua) || ua.ASC != 0x29 {
		t.Errorf("write bound to the session before: %v", err)
	}
	must(t, l.WriteAt(disk.OnSession(ctx, l.(disk.Sessioned).Session()), b, 0))
}

// TestDeadlines: a caller whose context ends leaves at once, and the session
// lives; a target that answers nothing costs the session after the timeout.
func TestDeadlines(t *testing.T) {
	ctx := testContext(t)
	target, o := startTarget(t)
	o.Timeout = time.Second
	l, err := Open(ctx, o)
	must(t, err)
	defer l.Close()
	b := make([]byte, 512)
	must(t, target.Pause())
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := l.WriteAt(short, b, 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("write with a deadline: %v", err)
	}
	if took := time.Since(begin); took > 400*time.Millisecond {
		t.Errorf("the deadline of 50 ms took %v", took)
	}
	must(t, target.Resume())
	must(t, l.WriteAt(ctx, b, 0)) // on the same session
	must(t, target.Pause())
	begin = time.Now()
	if err := l.WriteAt(ctx, b, 0); !errors.Is(err, disk.ErrPathLost) {
		t.Errorf("write to a silent target: %v", err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("a silent target took %v", took)
	}
	must(t, target.Resume())
}

func TestReservationsOnTgt(t *testing.T) {
	ctx := testContext(t)
	_, o := startTarget(t)
	a, err := Open(ctx, node(o, "a"))
	must(t, err)
	defer a.Close()
	b, err := Open(ctx, node(o, "b"))
	must(t, err)
	defer b.Close()
	blk := make([]byte, 512)
	must(t, a.Reserve(ctx, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 0xa}))
	must(t, a.Reserve(ctx, disk.ReserveOut{Action: disk.ReserveAction, Key: 0xa, Type: 5}))
	if err := b.WriteAt(ctx, blk, 0); !errors.Is(err, disk.ErrConflict) {
		t.Fatalf("write without a key: %v", err)
	}
	must(t, b.ReadAt(ctx, blk, 0))
	must(t, b.Reserve(ctx, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 0xb}))
	must(t, b.WriteAt(ctx, blk, 0))
	r, err := a.Reservations(ctx)
	must(t, err)
	if !r.Has(0xa) || !r.Has(0xb) || r.Type != 5 {
		t.Fatalf("%+v", r)
	}
	must(t, a.Reserve(ctx, disk.ReserveOut{Action: disk.Preempt, Key: 0xa, ServiceKey: 0xb, Type: 5}))
	must(t, a.ResetUnit(ctx))
	var ua *disk.AttentionError
	if err := a.Flush(ctx); !errors.As(err, &ua) || !ua.Reservation() {
		t.Errorf("first command after the reset: %v", err)
	}
	if err := a.Reserve(ctx, disk.ReserveOut{Action: disk.Register, Key: 0xa, ServiceKey: 0xa, Persist: true}); !errors.Is(err, disk.ErrUnsupported) {
		t.Errorf("tgt and APTPL: %v", err)
	}
}

// TestRubbish: a target that answers nonsense, or nothing, is an error.
func TestRubbish(t *testing.T) {
	ctx := testContext(t)
	for name, serve := range map[string]func(net.Conn){
		"closes": func(c net.Conn) { c.Close() },
		"garbage": func(c net.Conn) {
			_, _ = c.Write([]byte(strings.Repeat("\x23\x80\xff\x7f\x01", 4000)))
			_, _ = io.Copy(io.Discard, c)
		},
		"zeroes":  func(c net.Conn) { _, _ = c.Write(make([]byte, 4096)); _, _ = io.Copy(io.Discard, c) },
		"silence": func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					wg.Go(func() { serve(c); c.Close() })
				}
			})
			defer wg.Wait()
			defer l.Close()
			o := Options{Portal: l.Addr().String(), Target: testIQN, InitiatorName: testName + "r", Timeout: 300 * time.Millisecond}
			if _, err := Open(ctx, o); err == nil {
				t.Error("opened")
			}
			if _, err := Discover(ctx, o.Portal, o); err == nil {
				t.Error("discovered")
			}
		})
	}
	if _, err := Open(ctx, Options{URL: "iscsi://127.0.0.1:1/" + testIQN + "/1", InitiatorName: testName + "r"}); !errors.Is(err, disk.ErrPathLost) {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for _, bad := range []string{"", "iscsi://h/x/1", "iscsi://h/iqn.x", "iscsi://h/iqn.x/-1", "iscsi://u:p@h/iqn.x/1", "http://h/iqn.x/1", "iscsi:///iqn.x/1"} {
		if _, _, _, err := ParseURL(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	portal, target, lun, err := ParseURL("iscsi://san/iqn.2026-11.x:y/3")
	if err != nil || portal != "san:3260" || target != "iqn.2026-11.x:y" || lun != 3 {
		t.Errorf("%s %s %d %v", portal, target, lun, err)
	}
	a, b := Options{InitiatorName: "iqn.a", Target: "iqn.t", LUN: 1}, Options{InitiatorName: "iqn.a", Target: "iqn.t", LUN: 2}
	ar, aq := a.isid()
	if br, bq := b.isid(); ar == br && aq == bq {
		t.Error("two LUNs share an ISID")
	}
	if r, q := a.isid(); r != ar || q != aq {
		t.Error("the ISID changes")
	}
}
