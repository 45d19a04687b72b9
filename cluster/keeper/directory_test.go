package keeper

import (
	"os"
	"path/filepath"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/directory"
)

// TestDirectoryIsAttachedAndWatched: a directory that bears the volume's mark is bound to
// its place, one that does not is refused; it is lost when the mark is gone, and there
// again; it leaves its place with the volume, and with the lease.
func TestDirectoryIsAttachedAndWatched(t *testing.T) {
	r := newRig(t)
	r.leader.lease = 5000 // it is lost when it is meant to be
	a := r.start(1, 1)
	dir := t.TempDir()
	d := directory.New(dir)
	must(t, d.Mark(background, "id1"))
	attach := func(id string) (string, error) {
		res, err := a.api.Attach(background, connect.NewRequest(&keeperpb.AttachRequest{Volume: "Shared", Directory: dir, Id: id, Epoch: 1}))
		if err != nil {
			return "", err
		}
		return res.Msg.Path, nil
	}
	if _, err := attach("id2"); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Fatalf("another volume's directory: %v", err)
	}
	path, err := attach("id1")
	must(t, err)
	_, err = attach("id1") // once more changes nothing
	must(t, err)
	must(t, os.WriteFile(filepath.Join(path, "x"), []byte("through its place"), 0o600))
	if got, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(got) != "through its place" {
		t.Fatalf("%q, %v", got, err)
	}
	state := func() string {
		for _, v := range a.state2().Volumes {
			if v.Name == "Shared" {
				return v.State
			}
		}
		return ""
	}
	waitFor(t, "it is there", func() bool { return state() == "direct" })
	must(t, d.Unmark(background))
	waitFor(t, "it is lost", func() bool { return state() == "paused" })
	must(t, d.Mark(background, "id1"))
	waitFor(t, "it is there again", func() bool { return state() == "direct" })

	gone := func() bool {
		_, err := os.Stat(filepath.Join(path, "x"))
		return os.IsNotExist(err)
	}
	_, err = a.api.Detach(background, connect.NewRequest(&keeperpb.DetachRequest{Volume: "Shared"}))
	must(t, err)
	if !gone() || state() != "" {
		t.Fatal("it is still there")
	}
	_, err = attach("id1")
	must(t, err)
	r.leader.set(r.leader.silent, 1, true)
	waitFor(t, "the node is fenced", func() bool { return a.state2().State == string(fenced) })
	waitFor(t, "it has left its place", gone)
	if got, err := os.ReadFile(filepath.Join(dir, "x")); err != nil || string(got) != "through its place" {
		t.Fatalf("what was in the directory: %q, %v", got, err)
	}
}
