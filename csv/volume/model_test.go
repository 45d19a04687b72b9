package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"quorate/disk"
)

// model is what a volume should hold: paths to bytes; nil bytes are a directory. An
// extended attribute is a path of its own, see attr.
// Bytes are replaced and never changed in place, so that models share them.
type model map[string][]byte

func (m model) clone() model { return maps.Clone(m) }

// attr is the path of the attribute of a path.
func attr(p string) string { return p + "\x00user.a" }

// rig does with a volume what coordinator and client do, one thing at a time.
type rig struct {
	t   *testing.T
	dev disk.Device
	v   *Volume
	now int64
	// exact makes each write stand alone between two syncs; blur is what of
	// it may be half there after a crash.
	exact bool
	blur  blur
	// based and synced tell that everything before, and after, the last step
	// is durable.
	based, synced bool
}

type blur struct {
	path   string
	lo, hi int64
}

// clear hides what may be half there.
func (b blur) clear(m model) model {
	c := m[b.path]
	if lo, hi := min(b.lo, int64(len(c))), min(b.hi, int64(len(c))); lo < hi {
		c = slices.Clone(c)
		clear(c[lo:hi])
		m[b.path] = c
	}
	return m
}

var background = context.Background()

func (r *rig) path(p string) (Inode, error) {
	i, err := r.v.Stat(RootIno)
	for _, name := range strings.Split(strings.Trim(p, "/"), "/") {
		if name != "" && err == nil {
			i, err = r.v.Lookup(i.Ino, name)
		}
	}
	return i, err
}

func (r *rig) split(p string) (uint64, string, error) {
	at := strings.LastIndexByte(p, '/')
	d, err := r.path(p[:at])
	return d.Ino, p[at+1:], err
}

// write writes whole blocks around data, zeros where nothing was written.
func (r *rig) write(ino uint64, off int64, data []byte) error {
	end := off + int64(len(data))
	from, to := uint64(off/BlockSize), Blocks(end)
	i, err := r.v.Allocate(ino, from, to, true)
	if err != nil {
		return err
	}
	if err := r.v.Sync(background); err != nil {
		return err
	}
	if err := r.zeroTail(i, end); err != nil {
		return err
	}
	old, err := r.read(ino, int64(from)*BlockSize, int(to-from)*BlockSize, i.Size)
	if err != nil {
		return err
	}
	copy(old[off-int64(from)*BlockSize:], data)
	es, err := r.v.Map(ino, from, to)
	if err != nil {
		return err
	}
	for _, e := range es {
		at := int(e.File-from) * BlockSize
		if err := r.dev.WriteAt(background, old[at:at+int(e.N)*BlockSize], int64(e.Phys)*BlockSize); err != nil {
			return err
		}
	}
	if _, err = r.v.Commit(ino, es, end, r.now); err == nil && r.now%3 == 0 {
		_, err = r.v.GiveBack(ino, 0, MaxFileSize/BlockSize)
	}
	return err
}

// zeroTail clears what lies behind a file's end in its last block.
func (r *rig) zeroTail(i Inode, end int64) error {
	if i.Size%BlockSize == 0 || end <= i.Size || i.Size/BlockSize == (end-1)/BlockSize {
		return nil
	}
	es, err := r.v.Map(i.Ino, uint64(i.Size/BlockSize), Blocks(i.Size))
	if err != nil || !es[0].Written {
		return err
	}
	b := make([]byte, BlockSize)
	if err := r.dev.ReadAt(background, b, int64(es[0].Phys)*BlockSize); err != nil {
		return err
	}
	clear(b[i.Size%BlockSize:])
	return r.dev.WriteAt(background, b, int64(es[0].Phys)*BlockSize)
}

// read returns n bytes at off, zeros for what was not written or lies behind size.
func (r *rig) read(ino uint64, off int64, n int, size int64) ([]byte, error) {
	out := make([]byte, n)
	es, err := r.v.Map(ino, uint64(off/BlockSize), Blocks(off+int64(n)))
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		if !e.Written {
			continue
		}
		at := int64(e.File)*BlockSize - off
		if err := r.dev.ReadAt(background, out[at:at+int64(e.N)*BlockSize], int64(e.Phys)*BlockSize); err != nil {
			return nil, err
		}
	}
	if size < off+int64(n) {
		clear(out[max(0, size-off):])
	}
	return out, nil
}

// tree reads the whole volume back.
func (r *rig) tree() (model, error) {
	m := model{}
	var walk func(dir uint64, at string) error
	walk = func(dir uint64, at string) error {
		es, err := r.v.ReadDir(dir, "", 10000)
		if err != nil {
			return err
		}
		for _, e := range es {
			i, err := r.v.Stat(e.Ino)
			if err != nil {
				return fmt.Errorf("%s/%s: %w", at, e.Name, err)
			}
			p := at + "/" + e.Name
			if r.v.HasXattrs(i.Ino) {
				val, err := r.v.Xattr(i.Ino, "user.a")
				if err != nil {
					return err
				}
				m[attr(p)] = append([]byte{}, val...)
			}
			if i.IsDir() {
				m[p] = nil
				if err := walk(i.Ino, p); err != nil {
					return err
				}
				continue
			}
			m[p] = []byte{}
			if i.Size > 0 {
				b, err := r.read(i.Ino, 0, int(Blocks(i.Size))*BlockSize, i.Size)
				if err != nil {
					return err
				}
				m[p] = b[:i.Size]
			}
		}
		return nil
	}
	return m, walk(RootIno, "")
}

// step does one random thing to the volume, and to the model what it should do.
func (r *rig) step(rnd *rand.Rand, m model) error {
	r.now++
	names := []string{"/a", "/b", "/c", "/d/a", "/d/b", "/d", "/e", "/e/a", "/e/b/c", "/e/b"}
	p, q := names[rnd.IntN(len(names))], names[rnd.IntN(len(names))]
	content, exists := m[p]
	isFile := exists && content != nil
	dir, name, err := r.split(p)
	if err != nil {
		return nil
	}
	switch rnd.IntN(10) {
	case 0, 1:
		_, err := r.v.Create(dir, name, New{Mode: syscall.S_IFREG | 0o644}, r.now)
		if err == nil {
			m[p] = []byte{}
		}
		return r.expect(err, exists, syscall.EEXIST, syscall.ENOTDIR)
	case 2:
		_, err := r.v.Create(dir, name, New{Mode: syscall.S_IFDIR | 0o755}, r.now)
		if err == nil {
			m[p] = nil
		}
		return r.expect(err, exists, syscall.EEXIST, syscall.ENOTDIR)
	case 3:
		return r.remove(m, p, dir, name)
	case 4:
		return r.rename(m, p, q)
	case 5:
		if isFile {
			return r.resize(m, p, rnd.Int64N(6*BlockSize))
		}
	case 6:
		if isFile {
			return r.punch(m, p, rnd.Uint64N(4), rnd.IntN(2) == 0)
		}
	case 7:
		if exists {
			return r.setAttr(m, p, rnd)
		}
	default:
		if isFile {
			data := bytes.Repeat([]byte{byte(1 + rnd.IntN(255))}, 1+rnd.IntN(3*BlockSize))
			off := rnd.Int64N(5 * BlockSize)
			i, err := r.path(p)
			if err != nil {
				return err
			}
			if r.exact {
				if err := r.v.Sync(background); err != nil {
					return err
				}
				r.based = true
				r.blur = blur{p, off, off + int64(len(data))}
			}
			if err := r.write(i.Ino, off, data); err != nil {
				return r.expect(err, false)
			}
			b := slices.Clone(content)
			if need := off + int64(len(data)); need > int64(len(b)) {
				b = append(b, make([]byte, need-int64(len(b)))...)
			}
			copy(b[off:], data)
			m[p] = b
			if r.exact {
				return r.sync()
			}
		}
	}
	return nil
}

// sync makes data and metadata durable.
func (r *rig) sync() error {
	if err := r.dev.Flush(background); err != nil {
		return err
	}
	if err := r.v.Sync(background); err != nil {
		return err
	}
	r.blur = blur{}
	r.synced = true
	return nil
}

func (r *rig) expect(err error, must bool, allowed ...syscall.Errno) error {
	for _, e := range append(allowed, syscall.ENOSPC) {
		if errors.Is(err, e) {
			return nil
		}
	}
	if err == nil && must {
		return errors.New("no error where one was expected")
	}
	return err
}

func (r *rig) remove(m model, p string, dir uint64, name string) error {
	i, err := r.v.Lookup(dir, name)
	if err != nil {
		return r.expect(err, true, syscall.ENOENT, syscall.ENOTDIR)
	}
	if i.IsDir() {
		_, err = r.v.Rmdir(dir, name, r.now)
	} else {
		_, err = r.v.Unlink(dir, name, r.now)
	}
	if err != nil {
		return r.expect(err, true, syscall.ENOTEMPTY)
	}
	delete(m, p)
	delete(m, attr(p))
	return r.reap()
}

// setAttr sets the attribute, or removes it.
func (r *rig) setAttr(m model, p string, rnd *rand.Rand) error {
	i, err := r.path(p)
	if err != nil {
		return err
	}
	if _, is := m[attr(p)]; is && rnd.IntN(3) == 0 {
		_, err := r.v.RemoveXattr(i.Ino, "user.a", r.now)
		delete(m, attr(p))
		return err
	}
	val := bytes.Repeat([]byte{byte(rnd.IntN(256))}, rnd.IntN(MaxXattr))
	if _, err = r.v.SetXattr(i.Ino, "user.a", val, 0, r.now); err != nil {
		return r.expect(err, false)
	}
	m[attr(p)] = val
	return nil
}

func (r *rig) reap() error {
	for _, ino := range r.v.Orphans(10) {
		if done, err := r.v.Reap(ino); err != nil || !done {
			return fmt.Errorf("reap: %v %w", done, err)
		}
	}
	return nil
}

func (r *rig) rename(m model, p, q string) error {
	dir, name, err := r.split(p)
	newDir, newName, err2 := r.split(q)
	if err != nil || err2 != nil {
		return nil
	}
	if _, err = r.v.Rename(dir, name, newDir, newName, 0, r.now); err != nil {
		return r.expect(err, true, syscall.ENOENT, syscall.ENOTDIR, syscall.EISDIR, syscall.ENOTEMPTY, syscall.EINVAL)
	}
	if p != q {
		delete(m, attr(q))
	}
	moved := model{}
	for k, b := range m {
		if k == p || k == attr(p) || strings.HasPrefix(k, p+"/") {
			moved[q+k[len(p):]] = b
			delete(m, k)
		}
	}
	maps.Copy(m, moved)
	return r.reap()
}

func (r *rig) resize(m model, p string, size int64) error {
	i, err := r.path(p)
	if err != nil {
		return err
	}
	b := m[p]
	if size > i.Size {
		if i.Size%BlockSize != 0 {
			if err := r.zeroTail(i, int64(Blocks(i.Size))*BlockSize+1); err != nil {
				return err
			}
		}
		_, err = r.v.Grow(i.Ino, size, r.now)
		m[p] = slices.Concat(b, make([]byte, size-int64(len(b))))
		return err
	}
	for done := false; !done; {
		if _, done, err = r.v.Shrink(i.Ino, size, r.now); err != nil {
			return err
		}
	}
	m[p] = b[:size:size]
	return nil
}

func (r *rig) punch(m model, p string, from uint64, keep bool) error {
	i, err := r.path(p)
	if err != nil {
		return err
	}
	to := from + 2
	for done := false; !done; {
		if _, done, err = r.v.Punch(i.Ino, from, to, keep, r.now); err != nil {
			return err
		}
	}
	b := slices.Clone(m[p])
	lo, hi := min(int(from)*BlockSize, len(b)), min(int(to)*BlockSize, len(b))
	clear(b[lo:hi])
	m[p] = b
	return nil
}

func same(a, b model) bool {
	return maps.EqualFunc(a, b, func(x, y []byte) bool { return (x == nil) == (y == nil) && bytes.Equal(x, y) })
}

// differ says in what two models differ first.
func differ(got, want model) string {
	for _, p := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[p]
		switch w := want[p]; {
		case !ok:
			return p + " is missing"
		case len(g) != len(w) || (g == nil) != (w == nil):
			return fmt.Sprintf("%s has %d bytes, should have %d", p, len(g), len(w))
		default:
			for i := range w {
				if g[i] != w[i] {
					return fmt.Sprintf("%s (%d bytes): byte %d is %#x, should be %#x", p, len(w), i, g[i], w[i])
				}
			}
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			return p + " should not be there"
		}
	}
	return "nothing"
}
