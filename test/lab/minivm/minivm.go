// Package minivm boots Debian's cloud kernel with a RAM disk of one's own in
// QEMU: busybox, the kernel modules that are asked for, and a script. It stands
// where a kernel other than the host's is needed: for Linux's iSCSI target as a
// SAN, and for SCSI devices.
//
// It is called by test/lab and by tests. It installs nothing: the kernel is
// downloaded with apt-get and unpacked into a cache.
//
// Traps: without KVM a boot takes a few seconds. The script runs as process 1; when
// it ends, the machine powers off.
package minivm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Kernel is what was unpacked.
type Kernel struct {
	// Image is the kernel's file, Modules the folder of its modules.
	Image, Modules string
}

// Fetch finds the kernel in the cache, or downloads and unpacks it there.
func Fetch(ctx context.Context, cache string) (Kernel, error) {
	root := filepath.Join(cache, "kernel")
	// The guest's builder keeps the same package.
	for _, at := range []string{root, filepath.Join(cache, "guest", "debian")} {
		if k, err := locate(at); err == nil {
			return k, nil
		}
	}
	name, err := kernelPackage(ctx)
	if err != nil {
		return Kernel{}, err
	}
	if err := Unpack(ctx, root, name); err != nil {
		return Kernel{}, err
	}
	return locate(root)
}

// Unpack downloads Debian packages and unpacks them below root. A root that is
// there is taken as it is.
func Unpack(ctx context.Context, root string, packages ...string) error {
	if err := os.MkdirAll(filepath.Dir(root), 0o755); err != nil {
		return err
	}
	unlock, err := lock(root + ".lock")
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Stat(root); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(filepath.Dir(root), "unpack-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	// apt downloads as a user of its own where it can.
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if _, err := run(ctx, tmp, "apt-get", append([]string{"-q", "download"}, packages...)...); err != nil {
		return fmt.Errorf("%w (is there a network, and was apt-get update run?)", err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return err
	}
	for _, d := range debs {
		if _, err := run(ctx, tmp, "dpkg-deb", "-x", d, "root"); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(tmp, "root"), root)
}

func locate(root string) (Kernel, error) {
	images, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*"))
	modules, _ := filepath.Glob(filepath.Join(root, "lib", "modules", "*"))
	if len(images) != 1 || len(modules) != 1 {
		return Kernel{}, fmt.Errorf("%s holds %d kernels and %d sets of modules", root, len(images), len(modules))
	}
	return Kernel{Image: images[0], Modules: modules[0]}, nil
}

func kernelPackage(ctx context.Context) (string, error) {
	out, err := run(ctx, "", "apt-cache", "depends", "linux-image-cloud-amd64")
	if err != nil {
		return "", err
	}
	for line := range strings.SplitSeq(out, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", errors.New("apt does not know linux-image-cloud-amd64: run apt-get update")
}

func run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// Missing tells what has to be installed, or nil.
func Missing() error {
	var faults []error
	for program, pkg := range map[string]string{"qemu-system-x86_64": "qemu-system-x86", "apt-get": "apt", "dpkg-deb": "dpkg", "busybox": "busybox-static"} {
		if _, err := exec.LookPath(program); err != nil {
			faults = append(faults, fmt.Errorf("%s is not installed: apt-get install %s", program, pkg))
		}
	}
	return errors.Join(faults...)
}

// Args are QEMU's arguments for a machine of that kernel and RAM disk, with its
// console on standard output; the caller adds devices.
func (k Kernel) Args(initrd string, memoryMiB int) []string {
	return []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-serial", "stdio",
		"-machine", "q35", "-cpu", "max", "-accel", "tcg", "-m", fmt.Sprint(memoryMiB),
		"-kernel", k.Image, "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
	}
}
