package guest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// parts are the pieces of Debian that an image is made of.
type parts struct {
	root    string // where the packages were unpacked
	kernel  string // its file
	modules string // the folder of its modules
}

// unpack downloads the packages and unpacks them below dir, once.
func unpack(ctx context.Context, dir string) (parts, error) {
	root := filepath.Join(dir, "debian")
	if p, err := locate(root); err == nil {
		return p, nil
	}
	for _, tool := range []struct{ name, pkg string }{{"apt-get", "apt"}, {"dpkg", "dpkg"}} {
		if _, err := exec.LookPath(tool.name); err != nil {
			return parts{}, fmt.Errorf("guest: %s is not here; it is part of Debian's package %s: %w", tool.name, tool.pkg, err)
		}
	}
	kernel, err := kernelPackage(ctx)
	if err != nil {
		return parts{}, err
	}
	tmp, err := os.MkdirTemp(dir, "unpack-")
	if err != nil {
		return parts{}, fmt.Errorf("guest: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	args := append([]string{"-q", "download", kernel}, Downloaded...)
	if _, err := run(ctx, tmp, nil, "apt-get", args...); err != nil {
		return parts{}, fmt.Errorf("%w (is there a network, and was apt-get update run?)", err)
	}
	debs, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil {
		return parts{}, fmt.Errorf("guest: %w", err)
	}
	fresh := filepath.Join(tmp, "root")
	for _, deb := range debs {
		if _, err := run(ctx, tmp, nil, "dpkg", "-x", deb, fresh); err != nil {
			return parts{}, err
		}
	}
	if err := os.RemoveAll(root); err != nil {
		return parts{}, fmt.Errorf("guest: %w", err)
	}
	if err := commit(fresh, root); err != nil {
		return parts{}, err
	}
	return locate(root)
}

// kernelPackage is what linux-image-cloud-amd64 depends on today.
func kernelPackage(ctx context.Context) (string, error) {
	out, err := run(ctx, "", nil, "apt-cache", "depends", "linux-image-cloud-amd64")
	if err != nil {
		return "", err
	}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		if name, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", errors.New("guest: apt does not know linux-image-cloud-amd64; run apt-get update")
}

// locate finds the pieces in what was unpacked.
func locate(root string) (parts, error) {
	kernels, _ := filepath.Glob(filepath.Join(root, "boot", "vmlinuz-*")) // the pattern is sound
	modules, _ := filepath.Glob(filepath.Join(root, "lib", "modules", "*"))
	if len(kernels) != 1 || len(modules) != 1 {
		return parts{}, fmt.Errorf("guest: %s holds %d kernels and %d sets of modules; one of each is needed", root, len(kernels), len(modules))
	}
	return parts{root: root, kernel: kernels[0], modules: modules[0]}, nil
}

// lock keeps two builders in one folder apart.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, fmt.Errorf("guest: locking %s: %w", path, errors.Join(err, f.Close()))
	}
	return func() { _ = f.Close() }, nil
}
