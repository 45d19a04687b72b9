package vm_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"quorate/resources/vm"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// inNamespace runs the rest of the test in a network namespace of its own.
func inNamespace(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	runtime.LockOSThread()
	before, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	own, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := netns.Set(before); err != nil {
			t.Error(err) // the thread is not given back
			return
		}
		_ = own.Close()
		_ = before.Close()
		runtime.UnlockOSThread()
	})
}

func TestCards(t *testing.T) {
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not here; install Debian's qemu-system-x86")
	}
	inNamespace(t)
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		t.Skip("no /dev/net/tun here")
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "clients"}}
	if err := netlink.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	noNetwork := errors.New("no such network")
	h, err := vm.NewHost(vm.Options{RunDir: runDir(t), Accel: vm.AccelTCG, Bridges: func(name string) (string, error) {
		if name != "Clients" {
			return "", noNetwork
		}
		return "clients", nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	spec := vm.Spec{Name: "sql01", MemoryMiB: 64, CPUs: 1, DiskSize: 1 << 20, Networks: []string{"Clients", "Clients"}}
	s, err := vm.Create(t.Context(), root, spec)
	if err != nil {
		t.Fatal(err)
	}
	taps := func() (n int) {
		links, err := netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Type() == "tuntap" {
				n++
				if l.Attrs().MasterIndex == 0 {
					t.Errorf("%s is on no bridge", l.Attrs().Name)
				}
			}
		}
		return n
	}
	m, err := h.Start(t.Context(), s, filepath.Join(root, "sql01"))
	if err != nil {
		t.Fatal(err)
	}
	if n := taps(); n != 2 {
		t.Errorf("%d taps for two cards", n)
	}
	replugs(t, h)
	if err := m.Kill(t.Context()); err != nil {
		t.Error(err)
	}
	if n := taps(); n != 0 {
		t.Errorf("%d taps are left", n)
	}
	s.Networks[1].Name = "Nowhere"
	if _, err := h.Start(t.Context(), s, filepath.Join(root, "sql01")); !errors.Is(err, noNetwork) {
		t.Errorf("a network that is not there: %v", err)
	}
	if n := taps(); n != 0 {
		t.Errorf("%d taps are left of a start that failed", n)
	}
}

// replugs has a machine's two cards go to another bridge while it runs.
func replugs(t *testing.T, h *vm.Host) {
	t.Helper()
	other := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "other"}}
	if err := netlink.LinkAdd(other); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		bridge string
		cards  int // that change over
	}{{"clients", 0}, {"nowhere", 0}, {"other", 2}, {"other", 0}} {
		done, err := h.Replug(t.Context(), map[string]string{"Clients": c.bridge})
		if err != nil || len(done) != c.cards {
			t.Errorf("to bridge %s: %q, %v", c.bridge, done, err)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Type() == "tuntap" && l.Attrs().MasterIndex != other.Attrs().Index {
			t.Errorf("%s is not on the other bridge", l.Attrs().Name)
		}
	}
}
