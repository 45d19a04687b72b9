package block

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorate/disk"
	"quorate/test/lab/minivm"
	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

const (
	guestEnv  = "QUORATE_GUEST"    // set on the host to boot the guest
	insideEnv = "QUORATE_IN_GUEST" // set inside it
	guestIQN  = "iqn.2026-11.test.quorate:block"
	guestTime = 3 * time.Minute
)

// TestInGuest runs inside the guest, where /dev/sda and /dev/sdb are one LUN of
// tgt, reached by two initiators.
func TestInGuest(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		t.Skip("it runs inside the guest that TestGuest boots")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	a, err := Open(ctx, "/dev/sda", Options{})
	must(t, err)
	defer a.Close()
	b, err := Open(ctx, "/dev/sdb", Options{})
	must(t, err)
	defer b.Close()
	t.Logf("%+v", a.Info())
	if i := a.Info(); i.ID == "" || i.ID != b.Info().ID || i.Serial != "B0001" || i.Size != 64<<20 || i.BlockSize != 512 {
		t.Fatalf("%+v", i)
	}
	c, err := a.Capabilities(ctx)
	must(t, err)
	if !c.Reservations || c.Persist || c.PreemptAbort {
		t.Errorf("%+v", c)
	}
	want := bytes.Repeat([]byte("quorate!"), (3<<20)/8)
	must(t, a.WriteAt(ctx, want, 512))
	must(t, a.Flush(ctx))
	got := make([]byte, len(want))
	must(t, b.ReadAt(ctx, got, 512))
	if !bytes.Equal(got, want) {
		t.Fatal("read back something else")
	}
	ga, gb := gate(t, a, 0xa), gate(t, b, 0xb)
	must(t, ga.WriteAt(ctx, want[:4096], 0))
	must(t, gb.WriteAt(ctx, want[:4096], 4096))
	_, err = disk.Fence(ctx, a, disk.FenceRequest{Own: 0xa, Victim: 0xb, Type: disk.WriteExclusiveRegistrantsOnly})
	must(t, err)
	if err := gb.WriteAt(ctx, want[:4096], 4096); !errors.Is(err, disk.ErrFenced) {
		t.Errorf("write of the fenced: %v", err)
	}
	for range 3 { // the reset's unit attention, and then for good
		err = b.WriteAt(ctx, want[:512], 0)
	}
	if !errors.Is(err, disk.ErrConflict) {
		t.Errorf("write past the gate: %v", err)
	}
	must(t, ga.WriteAt(ctx, want[:4096], 0))
	must(t, gb.Admit(ctx, 0xb2))
	must(t, gb.WriteAt(ctx, want[:4096], 4096))
}

func gate(t *testing.T, l disk.LUN, key disk.Key) *disk.Guard {
	t.Helper()
	g, err := disk.NewGuard(l, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: func() error { return nil }})
	must(t, err)
	must(t, g.Admit(context.Background(), key))
	return g
}

// TestGuest boots a guest whose SCSI disks QEMU passes on to tgt.
func TestGuest(t *testing.T) {
	if os.Getenv(guestEnv) == "" {
		t.Skipf("set %s=1 to try SG_IO in a guest (downloads Debian's cloud kernel and qemu-block-extra)", guestEnv)
	}
	if err := errors.Join(minivm.Missing(), tgt.Missing()); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), guestTime)
	defer cancel()
	cache, err := os.UserCacheDir()
	must(t, err)
	cache = filepath.Join(cache, "quorate")
	kernel, err := minivm.Fetch(ctx, cache)
	must(t, err)
	extra := filepath.Join(cache, "qemu-block-extra")
	must(t, minivm.Unpack(ctx, extra, "qemu-block-extra"))
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	must(t, kernel.Write(initrd, minivm.Initrd{
		Modules: []string{"virtio_pci", "virtio_scsi", "sd_mod", "crc32c_generic", "crct10dif_generic"},
		Files:   map[string][]byte{"bin/block.test": testBinary(t, ctx, dir)},
		Script:  insideEnv + "=1 /bin/block.test -test.run '^TestInGuest$' -test.v; echo status $?",
	}))
	_, portal := tgttest.Start(t, tgt.Options{IQN: guestIQN, LUNs: []tgt.LUN{
		{Number: 1, Name: "B", Size: 64 << 20, ID: "b1", Serial: "B0001"},
	}})
	args := append(kernel.Args(initrd, 512), "-device", "virtio-scsi-pci,id=s")
	for _, name := range []string{"a", "b"} {
		args = append(args,
			"-drive", fmt.Sprintf("if=none,format=raw,cache=none,id=%s,file.driver=iscsi,file.transport=tcp,file.portal=%s,file.target=%s,file.lun=1,file.initiator-name=iqn.2026-11.test.quorate:%s", name, portal, guestIQN, name),
			"-device", "scsi-block,bus=s.0,share-rw=on,drive="+name)
	}
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	cmd.Env = append(os.Environ(), "QEMU_MODULE_DIR="+filepath.Join(extra, "usr/lib/x86_64-linux-gnu/qemu"))
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	must(t, err)
	if !strings.Contains(string(out), "status 0") || !strings.Contains(string(out), "--- PASS: TestInGuest") {
		t.Error("it failed in the guest")
	}
}

func testBinary(t *testing.T, ctx context.Context, dir string) []byte {
	t.Helper()
	path := filepath.Join(dir, "block.test")
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
