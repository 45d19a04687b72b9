//go:build cgo

package iscsi

import (
	"context"
	"testing"

	"quorate/disk"
	"quorate/test/lab/tgt"
)

// breakSession has the target's end stop answering until this end has given the
// session up, and lets it go on: a new session to a target that did not restart.
func breakSession(t *testing.T, ctx context.Context, target *tgt.Target, l disk.LUN) {
	t.Helper()
	old := l.(disk.Sessioned).Session()
	must(t, target.Pause())
	if err := l.ReadAt(ctx, make([]byte, 512), 0); err == nil {
		t.Fatal("a stopped target answered")
	}
	must(t, target.Resume())
	for l.(disk.Sessioned).Session() == old {
		_ = l.ReadAt(ctx, make([]byte, 512), 0)
	}
}
