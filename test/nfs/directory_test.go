package nfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorate/csv/directory"
)

// directoryIsTested: what `csv add --path` does before it takes a directory, by the
// product's own code from two clients.
func directoryIsTested(t *testing.T, a, b *client) {
	ctx := t.Context()
	adopted := func(c *client, name string) *directory.Directory {
		path := filepath.Join(c.dir, "share", name)
		must(t, os.MkdirAll(path, 0o755))
		return directory.New(path)
	}
	onA, onB, other := adopted(a, "adopted"), adopted(b, "adopted"), adopted(b, "another")
	// Whatever was looked up before must not be believed later.
	if err := onB.Marked(ctx, "id"); err == nil {
		t.Error("it is not marked yet")
	}
	for _, name := range []string{"first", "second"} {
		test, err := onA.Begin(ctx, name, "nonce "+name)
		must(t, err)
		must(t, onB.Answer(ctx, name, "nonce "+name, "b", "answer"))
		must(t, test.Answered(ctx, "b", "answer"))
		if err := other.Answer(ctx, name, "nonce "+name, "b", "answer"); err == nil || !strings.Contains(err.Error(), "another directory") {
			t.Errorf("another directory answers: %v", err)
		}
		must(t, test.End(ctx))
	}
	must(t, onA.Mark(ctx, "id"))
	if err := onB.Mark(ctx, "id2"); err == nil {
		t.Error("it was marked twice")
	}
	must(t, onB.Marked(ctx, "id"))
	for range 10 {
		must(t, onA.Probe(ctx, "id", "a", "alive"))
		must(t, onB.Probe(ctx, "id", "b", "alive"))
	}
	size, free, err := onB.Space(ctx)
	if err != nil || size <= 0 || free <= 0 || free > size {
		t.Errorf("%d of %d bytes are free, %v", free, size, err)
	}
	must(t, onA.Unmark(ctx))
	if err := onB.Marked(ctx, "id"); err == nil {
		t.Error("it is not marked any more")
	}
}
