package box

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// rootfs builds a root from the host's, in a tmpfs: every entry of the host is
// bound where no bind of the box's own lies at it or below it. So nothing has to
// be made on the host, and nothing is left there.
type rootfs struct {
	root  string
	binds map[string]string
}

// fresh are mounted anew inside the box.
var fresh = map[string]bool{"/proc": true, "/sys": true, "/run": true}

func (r *rootfs) enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("lab", r.root, "tmpfs", 0, "mode=755,size=16m"); err != nil {
		return fmt.Errorf("mount a root: %w", err)
	}
	// Unbindable, so that binding the folder around it does not repeat it.
	if err := unix.Mount("", r.root, "", unix.MS_UNBINDABLE, ""); err != nil {
		return err
	}
	if err := r.compose("/"); err != nil {
		return err
	}
	if err := unix.Chdir(r.root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return r.fresh()
}

func (r *rootfs) fresh() error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := unix.Mount("sysfs", "/sys", "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /sys: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	return errors.Join(os.MkdirAll("/run/quorate", 0o755), os.MkdirAll("/run/lock", 0o1777))
}

// compose fills the folder p of the new root.
func (r *rootfs) compose(p string) error {
	entries, err := os.ReadDir(p)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	for b := range r.binds {
		if rest, ok := strings.CutPrefix(b, strings.TrimSuffix(p, "/")+"/"); ok {
			first, _, _ := strings.Cut(rest, "/")
			names[first] = true
		}
	}
	for name := range names {
		child := filepath.Join(p, name)
		target := filepath.Join(r.root, child)
		if src, ok := r.binds[child]; ok {
			err = place(src, target)
		} else if fresh[child] {
			err = os.Mkdir(target, 0o755)
		} else if r.below(child) {
			if err = os.Mkdir(target, 0o755); err == nil {
				err = r.compose(child)
			}
		} else {
			err = place(child, target)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put %s into the box: %w", child, err)
		}
	}
	return nil
}

func (r *rootfs) below(dir string) bool {
	for b := range r.binds {
		if strings.HasPrefix(b, dir+"/") {
			return true
		}
	}
	return false
}

// place binds src at target, whatever it is.
func place(src, target string) error {
	st, err := os.Lstat(src)
	if err != nil {
		return err
	}
	switch {
	case st.Mode()&os.ModeSymlink != 0:
		to, err := os.Readlink(src)
		if err != nil {
			return err
		}
		return os.Symlink(to, target)
	case st.IsDir():
		err = os.Mkdir(target, 0o755)
	default:
		var f *os.File
		if f, err = os.OpenFile(target, os.O_CREATE|os.O_EXCL, 0o644); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return err
	}
	return unix.Mount(src, target, "", unix.MS_BIND|unix.MS_REC, "")
}
