package keeper

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

const target = "iqn.2026-11.io.quorate:keeper"

// newTarget is a rig whose LUN of 1 TiB is on a real iSCSI target.
func newTarget(t *testing.T) (*rig, *tgt.Target) {
	t.Helper()
	r := newRig(t)
	tg, portal := tgttest.Start(t, tgt.Options{
		IQN:  target,
		LUNs: []tgt.LUN{{Number: 1, Name: "V", Size: 1 << 40, ID: "6000000000000002", Serial: "V1"}},
	})
	r.url = fmt.Sprintf("iscsi://%s/%s/1", portal, target)
	return r, tg
}

// TestTarget: a large LUN is formatted at once; two nodes use it over iSCSI; the
// target restarts and forgets all keys under a writer; a node is fenced under its
// writes and another takes the volume over.
func TestTarget(t *testing.T) {
	r, tg := newTarget(t)
	a, b := r.start(1, 1), r.start(2, 1)
	begin := time.Now()
	r.format(a)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("formatting took %v", took)
	}
	st, err := os.Stat(tg.File(1))
	must(t, err)
	t.Logf("formatted %d bytes in %v", st.Size(), time.Since(begin))
	pa := r.attach(a, 0x101, a, 1)
	pb := r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	must(t, os.WriteFile(filepath.Join(pb, "x"), want, 0o600))
	got, err := os.ReadFile(filepath.Join(pa, "x"))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("the other node reads something else")
	}

	must(t, tg.Restart(background))
	f, err := os.OpenFile(filepath.Join(pb, "x"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("after the target's restart"), 0)
	must(t, err)
	must(t, f.Sync())
	must(t, os.WriteFile(filepath.Join(pa, "y"), want, 0o600))

	// Node 1, which coordinates, is lost to the leader; node 2 fences it and
	// takes over, its own file open all the while.
	r.leader.set(r.leader.silent, 1, true)
	waitFor(t, "node 1 fenced", func() bool { return a.state2().State == string(fenced) })
	begin = time.Now()
	_, err = b.api.FenceKey(background, connect.NewRequest(&keeperpb.FenceKeyRequest{Volume: "Volume1", VictimKey: 0x101, VictimNode: 1}))
	must(t, err)
	fencedIn := time.Since(begin)
	r.coordinate(b, 2, 1)
	r.attach(b, 0x102, b, 2)
	must(t, os.WriteFile(filepath.Join(pb, "z"), []byte("new coordinator"), 0o600))
	t.Logf("fenced in %v, writing again after %v", fencedIn, time.Since(begin))
	_, err = f.WriteAt([]byte("goes on"), 1<<20)
	must(t, err)
	must(t, f.Close())
	got, err = os.ReadFile(filepath.Join(pb, "y"))
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Fatal("y has changed")
	}
}

// TestQEMU lets QEMU's own tools write and check through the mounts.
func TestQEMU(t *testing.T) {
	for _, tool := range []string{"qemu-img", "qemu-io"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs %s (Debian package qemu-utils)", tool)
		}
	}
	r, _ := newTarget(t)
	r.leader.lease = time.Minute.Milliseconds() // this much I/O can starve a short one on a small machine
	a, b := r.start(1, 1), r.start(2, 1)
	r.format(a)
	pa := r.attach(a, 0x101, a, 1)
	pb := r.attach(b, 0x102, a, 1)
	r.coordinate(a, 1)
	run := func(argv ...string) string {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", argv, err, out)
		}
		return string(out)
	}
	img := filepath.Join(pb, "d.raw")
	run("qemu-img", "create", "-f", "raw", img, "20G")
	for _, c := range []string{
		"bench -w -f raw -t none -c 2000 -d 32 -s 4096", "bench -w -f raw -t none -c 200 -d 8 -s 1048576",
		"bench -w -f raw -t none -c 200 -d 8 -s 1048576", "bench -f raw -t none -c 200 -d 8 -s 1048576",
		"bench -f raw -t none -c 20000 -d 32 -s 4096", "bench -w -f raw -t none -c 20000 -d 32 -s 4096",
	} {
		begin := time.Now()
		run(append(append([]string{"qemu-img"}, strings.Fields(c)...), img)...)
		t.Logf("qemu-img %s: %v", c, time.Since(begin))
	}
	run("qemu-io", "-f", "raw", "--cache=none", "-c", "write -P 7 5G 8M", "-c", "flush", img)
	out := run("qemu-io", "-f", "raw", "--cache=none", "-c", "read -P 7 5G 8M", "-c", "read -P 0 6G 1M", filepath.Join(pa, "d.raw"))
	if strings.Contains(out, "failed") {
		t.Fatal(out)
	}
}
