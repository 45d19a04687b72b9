package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"quorate/test/lab/minivm"
)

// The SAN with Linux's own target: a small machine in QEMU inside the SAN's box,
// whose network card is bridged to the storage network.
const (
	lioBridge = "br0"
	lioTap    = "tap0"
	lioReady  = "quorate-lio-ready" // printed on the console
	lioLimit  = 90 * time.Second    // for the machine to boot without KVM
	lioMemory = 256                 // MiB
	aptplSize = 16 << 20            // of the disk on which the target keeps its keys, bytes
)

// bridgeTap puts the SAN's cable into a bridge for the machine's card.
func bridgeTap(h *netlink.Handle, uplink string) error {
	br := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: lioBridge}}
	if err := h.LinkAdd(br); err != nil {
		return err
	}
	link, err := h.LinkByName(uplink)
	if err != nil {
		return err
	}
	if err := h.LinkSetMaster(link, br); err != nil {
		return err
	}
	if err := configure(h, uplink, ""); err != nil {
		return err
	}
	return configure(h, lioBridge, "")
}

// startLIO boots the machine and waits until it serves.
func (l *Lab) startLIO(ctx context.Context) error {
	b := l.box(sanBox)
	kernel, err := minivm.Fetch(ctx, l.o.Cache)
	if err != nil {
		return err
	}
	initrd := filepath.Join(b.Dir(), "initrd")
	if err := kernel.Write(initrd, minivm.Initrd{Modules: lioModules, Script: lioScript()}); err != nil {
		return err
	}
	if err := l.aptpl(ctx); err != nil {
		return err
	}
	script := fmt.Sprintf("ip link show %[1]s >/dev/null 2>&1 || ip tuntap add %[1]s mode tap; ip link set %[1]s master %[2]s up", lioTap, lioBridge)
	if err := run(ctx, b, []string{"sh", "-c", script}, nil); err != nil {
		return err
	}
	argv := append([]string{"qemu-system-x86_64"}, kernel.Args(initrd, lioMemory)...)
	argv = append(argv, "-netdev", "tap,id=n,script=no,downscript=no,ifname="+lioTap, "-device", "virtio-net-pci,romfile=,netdev=n,mac=52:54:00:1a:ff:02")
	for _, name := range append(lunNames(), "aptpl") {
		argv = append(argv, "-drive", "if=virtio,format=raw,file="+l.LUNFile(name))
	}
	size := logSize(b.LogPath(sanDaemon))
	if err := b.StartDaemon(ctx, sanDaemon, argv, nil); err != nil {
		return err
	}
	return l.awaitLIO(ctx, size)
}

func lunNames() []string {
	var out []string
	for _, lun := range luns {
		out = append(out, lun.Name)
	}
	return out
}

func logSize(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// awaitLIO waits for the machine's word in its console, past what is there from
// before.
func (l *Lab) awaitLIO(ctx context.Context, from int64) error {
	b := l.box(sanBox)
	ctx, cancel := context.WithTimeout(ctx, lioLimit)
	defer cancel()
	for {
		log, err := os.ReadFile(b.LogPath(sanDaemon))
		if err != nil {
			return err
		}
		log = log[min(from, int64(len(log))):]
		if bytes.Contains(log, []byte(lioReady)) {
			return nil
		}
		ds, err := b.Daemons(ctx)
		if err == nil && len(ds) > 0 && ds[0].PID == 0 {
			err = fmt.Errorf("it ended with status %d", ds[0].Exit)
		}
		if err != nil {
			return fmt.Errorf("the SAN's machine does not serve: %w: %s", err, log)
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// aptpl makes the disk on which the target keeps its registrations over a
// restart.
func (l *Lab) aptpl(ctx context.Context) error {
	path := l.LUNFile("aptpl")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(path, aptplSize); err != nil {
		return err
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		mkfs = "/sbin/mkfs.ext4"
	}
	if out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", path).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}

var lioModules = []string{
	"virtio_pci", "virtio_net", "virtio_blk", "ext4", "crc32c_generic", "crc32c_intel", "configfs",
	"target_core_mod", "target_core_file", "target_core_iblock", "iscsi_target_mod",
}

// lioScript configures the target by configfs.
func lioScript() string {
	var s strings.Builder
	p := func(format string, a ...any) { fmt.Fprintf(&s, format+"\n", a...) }
	p("ip link set lo up; ip link set eth0 up; ip addr add %s/24 dev eth0", SANAddress)
	p("mkdir -p /var/target && mount -o sync /dev/vd%c /var/target && mkdir -p /var/target/pr /var/target/alua", 'a'+len(luns))
	p("mount -t configfs none /sys/kernel/config; cd /sys/kernel/config/target || mkdir /sys/kernel/config/target")
	p("t=/sys/kernel/config/target; mkdir -p $t/iscsi; p=$t/iscsi/%s/tpgt_1; mkdir -p $p", TargetIQN)
	for i, lun := range luns {
		p("c=$t/core/iblock_%d/%s; mkdir -p $c", i, lun.Name)
		p("echo -n udev_path=/dev/vd%c > $c/control; echo 1 > $c/enable", 'a'+i)
		p("echo %s > $c/wwn/vpd_unit_serial", lun.Serial)
		// The kernel writes the registrations down and leaves it to others to
		// give them back, before the unit is exported.
		p(`[ -f /var/target/pr/aptpl_%[1]s ] && awk '/PR_REG_START/{s="";next} /PR_REG_END/{print s;next} {s=s (s==""?"":",") $0}' /var/target/pr/aptpl_%[1]s | while read r; do echo "$r" > $c/pr/res_aptpl_metadata; done`, lun.Serial)
		p("mkdir -p $p/lun/lun_%d; ln -s $c $p/lun/lun_%d/%s", lun.Number, lun.Number, lun.Name)
	}
	p("a=$p/attrib; echo 0 > $a/authentication; echo 1 > $a/generate_node_acls; echo 0 > $a/demo_mode_write_protect; echo 1 > $a/cache_dynamic_acls")
	p("mkdir -p $p/np/%s; echo 1 > $p/enable", Portal)
	p("echo %s", lioReady)
	p("while :; do sleep 1000; done")
	return s.String()
}
