package open

import (
	"context"
	"errors"
	"path/filepath"
	"testing"

	"quorate/disk"
)

func TestOpen(t *testing.T) {
	ctx := context.Background()
	for _, bad := range []string{"", "san", "nfs://x/y", "/dev/null", "iscsi://host/nothing", "file:///nonexistent/x"} {
		if l, err := Open(ctx, bad, Options{InitiatorName: "iqn.2026-11.test:x"}); err == nil {
			l.Close()
			t.Errorf("%q was opened", bad)
		}
	}
	l, err := Open(ctx, "file://"+filepath.Join(t.TempDir(), "f"), Options{FileSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.WriteAt(ctx, make([]byte, 4096), 4096); err != nil {
		t.Error(err)
	}
	if _, err := l.Reservations(ctx); !errors.Is(err, disk.ErrUnsupported) {
		t.Error(err)
	}
}
