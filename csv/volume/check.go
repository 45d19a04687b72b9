package volume

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// Finding is one thing that is wrong with a volume.
type Finding struct {
	// What is wrong, as an operator reads it.
	What string
	// Mended tells that Repair has put it right.
	Mended bool
}

// Checked is the outcome of a check.
type Checked struct {
	Files, Directories, Extents uint64
	Findings                    []Finding
}

// maxFindings is how many findings a check lists; a volume with more is beyond
// telling them one by one.
const maxFindings = 1000

// Check compares all of the volume's metadata with itself, and every metadata block on
// the LUN with its checksum. With repair it writes damaged copies of the label and the
// roots anew, and corrects counts that follow from the rest: names of an inode and its
// blocks. Everything else is for whoever has a backup. What is not durable yet when it
// is called is looked at too; the caller makes repairs durable (Sync), and lets nobody
// use the volume meanwhile.
func (v *Volume) Check(ctx context.Context, repair bool) (Checked, error) {
	c := &checker{v: v, repair: repair, inodes: map[uint64]Inode{}, names: map[uint64]uint32{}, blocks: map[uint64]uint64{}, xattrs: map[uint64]bool{}}
	c.collect()
	c.compare()
	v.end()
	if err := c.copies(ctx); err != nil {
		return c.Checked, fmt.Errorf("check volume %q: %w", v.label.Name, err)
	}
	return c.Checked, nil
}

type checker struct {
	Checked
	v      *Volume
	repair bool

	inodes  map[uint64]Inode
	names   map[uint64]uint32 // entries that name an inode, of directories those of their children too
	blocks  map[uint64]uint64 // allocated, by inode
	orphans map[uint64]bool
	xattrs  map[uint64]bool // inodes that attributes are of
}

func (c *checker) found(mended bool, format string, a ...any) {
	if len(c.Findings) < maxFindings {
		c.Findings = append(c.Findings, Finding{What: fmt.Sprintf(format, a...), Mended: mended})
	}
}

// collect reads the whole tree once.
func (c *checker) collect() {
	c.orphans = map[uint64]bool{}
	c.names[RootIno] = 1 // nothing names it
	type entry struct {
		dir, ino uint64
		name     string
		kind     uint32
	}
	var entries []entry
	used := newSpace(c.v.label)
	last := uint64(0) // where the last extent of the inode before ended
	lastIno := uint64(0)
	c.v.tree.ascend("", func(k string, val []byte) bool {
		switch {
		case strings.HasPrefix(k, prefixInode):
			ino, ok := keyNum(k, 0)
			i, err := decodeInode(ino, val)
			if !ok || err != nil {
				c.found(false, "the inode of key %q cannot be read", k)
				break
			}
			c.inodes[ino] = i
		case strings.HasPrefix(k, prefixDirent):
			dir, ok := keyNum(k, 0)
			if !ok || len(val) != 12 {
				c.found(false, "the directory entry of key %q cannot be read", k)
				break
			}
			entries = append(entries, entry{dir, binary.LittleEndian.Uint64(val), k[9:], binary.LittleEndian.Uint32(val[8:])})
		case strings.HasPrefix(k, prefixOrphan):
			if ino, ok := keyNum(k, 0); ok {
				c.orphans[ino] = true
			}
		case strings.HasPrefix(k, prefixXattr):
			if err := c.xattr(k, val); err != nil {
				c.found(false, "the attribute of key %q: %v", k, err)
			}
		case strings.HasPrefix(k, prefixExtent):
			c.Extents++
			ino, e, err := decodeExtent(k, val)
			if err == nil {
				err = used.take(run{e.Phys, uint64(e.N)})
			}
			if err != nil {
				c.found(false, "extent at block %d of inode %d: %v", e.File, ino, err)
				break
			}
			if ino == lastIno && e.File < last {
				c.found(false, "extents of inode %d overlap at block %d", ino, e.File)
			}
			lastIno, last = ino, e.end()
			c.blocks[ino] += uint64(e.N)
		}
		return true
	})
	for _, l := range c.v.tree.leaves {
		if l.block != 0 {
			if err := used.take(run{l.block, 1}); err != nil {
				c.found(false, "metadata: %v", err)
			}
		}
	}
	for _, e := range entries {
		child, ok := c.inodes[e.ino]
		switch parent, is := c.inodes[e.dir]; {
		case !is || !parent.IsDir():
			c.found(false, "%q is an entry of inode %d, which is no directory", e.name, e.dir)
		case !ok:
			c.found(false, "%q in directory %d names inode %d, which is not there", e.name, e.dir, e.ino)
		case child.Mode&syscall.S_IFMT != e.kind:
			c.found(false, "%q in directory %d says that inode %d is of another kind", e.name, e.dir, e.ino)
		case child.IsDir() && child.Parent != e.dir:
			c.found(false, "%q lies in directory %d, and its parent is said to be %d", e.name, e.dir, child.Parent)
		}
		c.names[e.ino]++
		if e.kind == syscall.S_IFDIR {
			c.names[e.dir]++ // its ".."
		}
	}
}

// xattr looks at an extended attribute.
func (c *checker) xattr(k string, val []byte) error {
	ino, ok := keyNum(k, 0)
	if !ok {
		return errCorrupt
	}
	c.xattrs[ino] = true
	return checkXattr(k[len(key(prefixXattr, ino)):], val, 0)
}

// compare checks each inode against what the others say of it.
func (c *checker) compare() {
	if root, ok := c.inodes[RootIno]; !ok || !root.IsDir() {
		c.found(false, "there is no root directory")
	}
	for _, ino := range slices.Sorted(maps.Keys(c.inodes)) {
		i := c.inodes[ino]
		want := c.names[ino]
		if i.IsDir() {
			c.Directories++
			if want > 0 {
				want++ // its "."
			}
		} else {
			c.Files++
		}
		switch {
		case want == 0 && !c.orphans[ino]:
			c.found(false, "inode %d has no name and is not on the list of what is to be removed", ino)
		case i.Nlink != want:
			c.found(c.repair, "inode %d has %d names, and says %d", ino, want, i.Nlink)
			c.mend(ino, func(i *Inode) { i.Nlink = want })
		}
		if have := c.blocks[ino]; i.Blocks != have {
			c.found(c.repair, "inode %d has %d blocks, and says %d", ino, have, i.Blocks)
			c.mend(ino, func(i *Inode) { i.Blocks = have })
		}
		delete(c.blocks, ino)
	}
	for _, ino := range slices.Sorted(maps.Keys(c.blocks)) {
		c.found(false, "%d blocks belong to inode %d, which is not there", c.blocks[ino], ino)
	}
	for _, ino := range slices.Sorted(maps.Keys(c.xattrs)) {
		if _, ok := c.inodes[ino]; !ok { // as a version that knows no attributes leaves them
			c.found(c.repair, "attributes belong to inode %d, which is not there", ino)
			if c.repair {
				c.v.dropXattrs(ino)
			}
		}
	}
	for _, ino := range slices.Sorted(maps.Keys(c.orphans)) {
		if _, ok := c.inodes[ino]; !ok {
			c.found(false, "inode %d is to be removed, and is not there", ino)
		}
	}
}

func (c *checker) mend(ino uint64, change func(*Inode)) {
	if i, err := c.v.Stat(ino); err == nil && c.repair {
		change(&i)
		c.v.putInode(i)
	}
}

// copies reads every metadata block that lies on the LUN: all labels, both copies of
// the last two roots, index and leaves.
func (c *checker) copies(ctx context.Context) error {
	v := c.v
	buf := make([]byte, metaAlign)
	for n, at := range []int64{0, tailOffset(v.label.Size), spareLabel} {
		if err := v.dev.ReadAt(ctx, buf, at); err != nil {
			return err
		}
		if l, err := decodeLabel(buf); err == nil && l == v.label {
			continue
		}
		c.found(c.repair, "copy %d of the label is damaged", n+1)
		if c.repair {
			if err := writeLabels(ctx, v.dev, v.label); err != nil {
				return err
			}
		}
	}
	damaged := false
	for slot := range min(v.gen, 2) { // the first root leaves the other slot empty
		slot = (v.gen - slot) % 2
		for n, at := range v.label.rootOffsets(slot) {
			if err := v.dev.ReadAt(ctx, buf, at); err != nil {
				return err
			}
			if _, err := decodeRoot(buf, v.label); err != nil {
				c.found(c.repair, "copy %d of root slot %d is damaged", n+1, slot)
				damaged = true
			}
		}
	}
	if err := c.leaves(ctx); err != nil || !damaged || !c.repair {
		return err
	}
	for range 2 { // each writes both copies of a slot
		if err := v.Checkpoint(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leaves reads index and leaves. One that is damaged is written anew by the next
// checkpoint: what it should hold is in memory.
func (c *checker) leaves(ctx context.Context) error {
	v := c.v
	buf := make([]byte, BlockSize)
	for n, block := range v.index {
		if h, _, err := v.readBlock(ctx, buf, block); err != nil || h.kind != kindIndex {
			if err != nil && !isCorrupt(err) {
				return err
			}
			c.found(c.repair, "index block %d is damaged", n)
		}
	}
	for n, l := range v.tree.leaves {
		if l.block == 0 || l.dirty {
			continue
		}
		h, _, err := v.readBlock(ctx, buf, l.block)
		if err != nil && !isCorrupt(err) {
			return err
		}
		if err == nil && h.kind == kindLeaf && h.a == l.gen {
			continue
		}
		c.found(c.repair, "leaf %d of the metadata, in block %d, is damaged", n, l.block)
		l.dirty = l.dirty || c.repair
	}
	if c.repair && len(c.Findings) > 0 {
		return v.Checkpoint(ctx)
	}
	return nil
}
