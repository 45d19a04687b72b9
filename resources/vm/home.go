package vm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// moveMark is the file of a machine's folder that names the move between volumes that
// made it, or that leaves it: nobody removes a folder for another move than that.
const moveMark = ".storage-move"

// Home is a folder that a machine is to live in, being filled with what it has in
// another.
type Home struct {
	settings Settings
	from, to string
	move     uint64
	// Copied is told how much was copied, in bytes. It may be nil.
	Copied func(n int64)
	// Bandwidth is the most that is copied in a second, in bytes; 0: no limit.
	Bandwidth int64
}

// NewHome is the folder to for the machine of these settings, which lives in from, for
// the move of that number. Nothing is made yet. The error names what of the machine
// cannot be moved; running tells that it runs.
func NewHome(s Settings, from, to string, move uint64, running bool) (*Home, error) {
	for what, path := range s.files() {
		inside := !filepath.IsAbs(path)
		switch {
		case filepath.IsAbs(path) && within(from, path):
			return nil, fmt.Errorf("vm: the settings of %s name its %s by the whole path %s, which would be another: make it relative to the folder", s.Name, what, path)
		case inside && !filepath.IsLocal(path):
			return nil, fmt.Errorf("vm: the %s of %s, %s, lies outside of its folder", what, s.Name, path)
		case inside && running && what == "medium":
			return nil, fmt.Errorf("vm: the medium of %s, %s, lies in its folder and is in its drive: move it while it is off", s.Name, path)
		}
	}
	return &Home{settings: s, from: from, to: to, move: move}, nil
}

// files are what settings name, by what it is.
func (s Settings) files() map[string]string {
	out := map[string]string{}
	for i, d := range s.Disks {
		out[fmt.Sprintf("disk %d", i)] = d.Path
	}
	for what, path := range map[string]string{"kernel": s.Kernel, "initrd": s.Initrd, "medium": s.ISO} {
		if path != "" {
			out[what] = path
		}
	}
	return out
}

func within(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && filepath.IsLocal(rel)
}

// diskAt is the disk of the machine that lies at a path relative to its folder.
func (s Settings) diskAt(rel string) (Disk, bool) {
	for _, d := range s.Disks {
		if filepath.Clean(d.Path) == rel {
			return d, true
		}
	}
	return Disk{}, false
}

// making is the folder before it has its name.
func making(to string, move uint64) string {
	return filepath.Join(filepath.Dir(to), fmt.Sprintf(".%s.move-%d", filepath.Base(to), move))
}

// Make makes the folder and copies into it all that the other one has; with blank the
// disks are made as large and empty, for a mirror to fill. It returns ErrExists where
// something has the name.
func (h *Home) Make(ctx context.Context, blank bool) error {
	if err := h.room(); err != nil {
		return err
	}
	tmp := making(h.to, h.move)
	if err := os.Mkdir(tmp, 0o750); err != nil {
		return fmt.Errorf("vm: the folder for %s: %w", h.settings.Name, err)
	}
	if err := errors.Join(mark(tmp, h.move), publish(tmp, h.to)); err != nil {
		return err
	}
	if err := syncPath(filepath.Dir(h.to)); err != nil {
		return err
	}
	return filepath.WalkDir(h.from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("vm: reading the folder of %s: %w", h.settings.Name, err)
		}
		rel, err := filepath.Rel(h.from, path)
		if err != nil || rel == "." || rel == moveMark {
			return err
		}
		return h.take(ctx, path, rel, d, blank)
	})
}

// room says whether the volume has room for all of it, as far as can be known now.
func (h *Home) room() error {
	var need int64
	err := filepath.WalkDir(h.from, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil {
			need += info.Sys().(*syscall.Stat_t).Blocks * 512
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("vm: reading the folder of %s: %w", h.settings.Name, err)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(filepath.Dir(h.to), &st); err != nil {
		return fmt.Errorf("vm: the room on %s: %w", filepath.Dir(h.to), err)
	}
	if free := int64(st.Bavail) * st.Bsize; free < need {
		return fmt.Errorf("vm: %s has %d bytes free, and %s takes %d: make room there", filepath.Dir(h.to), free, h.settings.Name, need)
	}
	return nil
}

// take copies one entry of the folder.
func (h *Home) take(ctx context.Context, path, rel string, d fs.DirEntry, blank bool) error {
	to := filepath.Join(h.to, rel)
	info, err := d.Info()
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	disk, isDisk := h.settings.diskAt(rel)
	switch {
	case d.IsDir():
		err = os.Mkdir(to, info.Mode().Perm())
	case d.Type() == fs.ModeSymlink:
		var target string
		if target, err = os.Readlink(path); err == nil {
			err = os.Symlink(target, to)
		}
		return wrapped(err)
	case !d.Type().IsRegular():
		return fmt.Errorf("vm: %s is no file, folder or link: remove it from the machine's folder", path)
	case isDisk && blank:
		err = blankDisk(ctx, to, disk)
	default:
		err = h.copyFile(ctx, path, to)
	}
	if err == nil {
		err = likeBefore(to, info)
	}
	return wrapped(err)
}

func wrapped(err error) error {
	if err != nil {
		return fmt.Errorf("vm: copying the machine's folder: %w", err)
	}
	return nil
}

// likeBefore gives what was copied the owner and the mode that it had.
func likeBefore(path string, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	if err := os.Lchown(path, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return os.Chmod(path, info.Mode().Perm())
}

// blankDisk makes an image as large as a disk, with nothing in it.
func blankDisk(ctx context.Context, path string, d Disk) error {
	if d.Format == "raw" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(d.Size), f.Close())
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", d.Format, path, strconv.FormatInt(d.Size, 10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("qemu-img: %w: %s", err, out)
	}
	return nil
}

func (h *Home) copyFile(ctx context.Context, from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o640)
	if err != nil {
		return err
	}
	return errors.Join(copySparse(ctx, dst, &paced{Reader: src, h: h, began: time.Now()}), dst.Sync(), dst.Close())
}

// paced counts what is read, and reads no faster than it may.
type paced struct {
	io.Reader
	h     *Home
	began time.Time
	n     int64
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	if p.h.Bandwidth > 0 {
		due := time.Duration(float64(p.n) / float64(p.h.Bandwidth) * float64(time.Second))
		time.Sleep(due - time.Since(p.began))
	}
	n, err := p.Reader.Read(b)
	p.n += int64(n)
	if p.h.Copied != nil {
		p.h.Copied(int64(n))
	}
	return n, err
}

// Settle makes all that lies in the folder durable, and marks the former one as that of
// the move: from here on the machine may live here.
func (h *Home) Settle() error {
	err := filepath.WalkDir(h.to, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type() == fs.ModeSymlink {
			return err
		}
		return syncPath(path)
	})
	return errors.Join(wrapped(err), mark(h.from, h.move))
}

// mark has a folder bear a move's number, durably.
func mark(folder string, move uint64) error {
	tmp, path := filepath.Join(folder, moveMark+".new"), filepath.Join(folder, moveMark)
	if err := os.WriteFile(tmp, fmt.Appendf(nil, "%d\n", move), 0o640); err != nil {
		return fmt.Errorf("vm: marking %s: %w", folder, err)
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("vm: marking %s: %w", folder, err)
	}
	return syncPath(folder)
}

// RemoveHome removes the folder that a move made or has left, with all that is in it.
// One that does not bear the move's number is another's, and stays. What is removed is
// what was opened: a folder that gets the name meanwhile is not touched.
func RemoveHome(folder string, move uint64) error {
	if err := os.RemoveAll(making(folder, move)); err != nil {
		return fmt.Errorf("vm: removing what a move left: %w", err)
	}
	root, err := os.OpenRoot(folder)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	} else if err != nil {
		return fmt.Errorf("vm: removing what a move left: %w", err)
	}
	defer root.Close()
	text, err := root.ReadFile(moveMark)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("vm: removing what a move left: %w", err)
	}
	if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil || n != move {
		return nil //nolint:nilerr // it bears no such number
	}
	return emptied(root, folder)
}

// emptied removes a folder's entries, the mark last, and then the folder.
func emptied(root *os.Root, folder string) error {
	entries, err := fs.ReadDir(root.FS(), ".")
	for _, e := range entries {
		if err == nil && e.Name() != moveMark {
			err = root.RemoveAll(e.Name())
		}
	}
	if err == nil {
		err = root.Remove(moveMark)
	}
	if err == nil {
		err = os.Remove(folder)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("vm: removing what a move left: %w", err)
	}
	return syncPath(filepath.Dir(folder))
}
