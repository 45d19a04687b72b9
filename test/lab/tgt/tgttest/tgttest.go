// Package tgttest gives a test an iSCSI target of its own: a tgtd on an address
// of the loopback network that nobody else has, gone when the test ends.
//
// It is called by tests only.
//
// Traps: the test is skipped where tgt is not installed or the tester is not
// root.
package tgttest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"testing"

	"quorate/test/lab/tgt"
)

// Start runs a target with o's LUNs. Dir and Portal of o are chosen here; then
// change may have its way with them, and Portal is returned.
func Start(t testing.TB, o tgt.Options, change ...func(*tgt.Options)) (target *tgt.Target, portal string) {
	t.Helper()
	if err := tgt.Missing(); err != nil {
		t.Skip(err)
	}
	o.Portal = freePortal(t)
	dir, err := os.MkdirTemp("", "tgt") // short, for the socket in it
	if err != nil {
		t.Fatal(err)
	}
	o.Dir = dir
	for _, c := range change {
		c(&o)
	}
	target, err = tgt.Start(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			_ = target.WriteLog(os.Stderr)
		}
		if err := target.Stop(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return target, o.Portal
}

// freePortal draws an address out of 127.0.0.0/8. A free port of 127.0.0.1 could
// be taken by somebody else's connection while tgtd starts, or starts again.
func freePortal(t testing.TB) string {
	t.Helper()
	var err error
	for range 10 {
		portal := fmt.Sprintf("127.%d.%d.%d:3260", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254))
		var l net.Listener
		if l, err = net.Listen("tcp", portal); err == nil {
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			return portal
		}
	}
	t.Fatalf("no free address for a target in 127.0.0.0/8: %v", err)
	return ""
}
