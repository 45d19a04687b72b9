package coordinator

import (
	"errors"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// maxEntries is how many entries of a directory one answer lists.
const maxEntries = 1024

// named returns a directory and what a name in it is, as far as they exist.
func (r *request) named(dir uint64, name []byte) []uint64 {
	if i, err := r.v.Lookup(dir, string(name)); err == nil {
		return []uint64{dir, i.Ino}
	}
	return []uint64{dir}
}

func (r *request) lookup(m *csvpb.Lookup) (*csvpb.Response, error) {
	var i volume.Inode
	var err error
	if werr := r.shared(func() uint64 {
		i, err = r.v.Lookup(m.Dir, string(m.Name))
		return i.Ino
	}); werr != nil {
		return nil, werr
	}
	if err != nil {
		return nil, err
	}
	return r.withLease(i, csv.Shared), nil
}

func (r *request) getInode(m *csvpb.GetInode) (*csvpb.Response, error) {
	if err := r.shared(func() uint64 { return m.Ino }); err != nil {
		return nil, err
	}
	i, err := r.v.Stat(m.Ino)
	if err != nil {
		return nil, err
	}
	return r.withLease(i, csv.Shared), nil
}

func (r *request) readDir(m *csvpb.ReadDir) (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	es, err := r.v.ReadDir(m.Dir, string(m.After), int(min(m.Limit, maxEntries)))
	if err != nil {
		return nil, err
	}
	resp := &csvpb.Response{}
	for _, e := range es {
		resp.Entries = append(resp.Entries, &csvpb.Entry{Name: []byte(e.Name), Ino: e.Ino, Type: e.Type})
	}
	return resp, nil
}

func (r *request) create(m *csvpb.Create) (*csvpb.Response, error) {
	if err := r.alone(func() []uint64 { return []uint64{m.Dir} }); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		if m.Open && resp.Inode != nil {
			r.openLocked(r.s.node, resp.Inode.Ino)
		}
		return resp, nil
	}
	i, err := r.v.Create(m.Dir, string(m.Name), volume.New{Mode: m.Mode, UID: m.Uid, GID: m.Gid, Rdev: m.Rdev, Target: string(m.Target)}, r.now())
	if errors.Is(err, syscall.EEXIST) && m.Open && !m.Exclusive {
		// open(2) with O_CREAT of what another node has just made.
		resp, err := r.lookup(&csvpb.Lookup{Dir: m.Dir, Name: m.Name})
		if err == nil {
			r.openLocked(r.s.node, resp.Inode.Ino)
		}
		return resp, err
	}
	if err != nil {
		return nil, err
	}
	if m.Open {
		r.openLocked(r.s.node, i.Ino)
	}
	return r.done(i, csv.Exclusive), nil
}

func (r *request) link(m *csvpb.Link) (*csvpb.Response, error) {
	if err := r.alone(func() []uint64 { return []uint64{m.Dir, m.Ino} }); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	i, err := r.v.Link(m.Ino, m.Dir, string(m.Name), r.now())
	if err != nil {
		return nil, err
	}
	return r.done(i, csv.Shared), nil
}

func (r *request) remove(m *csvpb.Remove) (*csvpb.Response, error) {
	if err := r.alone(func() []uint64 { return r.named(m.Dir, m.Name) }); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	remove := r.v.Unlink
	if m.Directory {
		remove = r.v.Rmdir
	}
	i, err := remove(m.Dir, string(m.Name), r.now())
	if err != nil {
		return nil, err
	}
	r.orphanLocked(i)
	return r.done(i, csv.None), nil
}

func (r *request) rename(m *csvpb.Rename) (*csvpb.Response, error) {
	if err := r.alone(func() []uint64 {
		return append(r.named(m.Dir, m.Name), r.named(m.NewDir, m.NewName)...)
	}); err != nil {
		return nil, err
	}
	if resp, ok := r.once(); ok {
		return resp, nil
	}
	replaced, err := r.v.Rename(m.Dir, string(m.Name), m.NewDir, string(m.NewName), m.Flags, r.now())
	if err != nil {
		return nil, err
	}
	r.orphanLocked(replaced)
	return r.done(replaced, csv.None), nil
}

// orphanLocked leaves an inode without a name to the reaper.
func (c *Coordinator) orphanLocked(i volume.Inode) {
	if i.Ino != 0 && i.Nlink == 0 {
		c.orphans[i.Ino] = true
	}
}

func (c *Coordinator) openLocked(n csv.NodeID, ino uint64) {
	if c.opens[ino] == nil {
		c.opens[ino] = map[csv.NodeID]bool{}
	}
	c.opens[ino][n] = true
}

func (r *request) open(m *csvpb.Open) (*csvpb.Response, error) {
	if err := r.shared(func() uint64 { return m.Ino }); err != nil {
		return nil, err
	}
	i, err := r.v.Stat(m.Ino)
	if err != nil {
		return nil, err
	}
	r.openLocked(r.s.node, m.Ino)
	return r.withLease(i, csv.Shared), nil
}

func (r *request) close(m *csvpb.Close) (*csvpb.Response, error) {
	if err := r.wait(func() bool { return true }); err != nil {
		return nil, err
	}
	delete(r.opens[m.Ino], r.s.node)
	if len(r.opens[m.Ino]) == 0 {
		delete(r.opens, m.Ino)
	}
	r.cond.Broadcast()
	return &csvpb.Response{}, nil
}

// reap removes files that have no name and that nobody has open, and takes back space
// that was given ahead to those that nobody has open any more.
func (c *Coordinator) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.stopping {
		if !c.reapOneLocked() && !c.takeBackLocked() {
			c.cond.Wait()
		}
	}
}

func (c *Coordinator) reapOneLocked() bool {
	if len(c.awaited) > 0 {
		return false
	}
	for ino := range c.orphans {
		if len(c.opens[ino]) > 0 {
			continue
		}
		ask, ok := c.leases.Exclude(ino)
		c.recall(ask)
		if !ok {
			continue
		}
		done, err := c.v.Reap(ino)
		if err != nil || done {
			delete(c.orphans, ino)
		}
		c.changedLocked()
		return true
	}
	return false
}
