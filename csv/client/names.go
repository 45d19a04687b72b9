package client

import (
	"fmt"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
)

func (c *Client) inode(ino uint64) *inode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inodeLocked(ino)
}

// overlay returns a copy of an inode with what this node alone knows.
func (c *Client) overlay(i *csvpb.Inode) *csvpb.Inode {
	out := &csvpb.Inode{
		Ino: i.Ino, Mode: i.Mode, Nlink: i.Nlink, Uid: i.Uid, Gid: i.Gid, Rdev: i.Rdev, Size: i.Size, Blocks: i.Blocks,
		Atime: i.Atime, Mtime: i.Mtime, Ctime: i.Ctime, Target: i.Target, HasXattrs: i.HasXattrs,
	}
	if in := c.inodes[i.Ino]; in != nil {
		size, mtime := in.alone()
		out.Size = max(out.Size, size)
		if mtime > out.Mtime {
			out.Mtime, out.Ctime = mtime, max(mtime, out.Ctime)
		}
	}
	return out
}

// ask carries out a request whose answer is an inode. touched are inodes that it
// changes besides.
func (c *Client) inodeOf(req *csvpb.Request, touched ...uint64) (*csvpb.Inode, error) {
	resp, err := c.do(req, func(r *csvpb.Response) {
		if r.Errno == 0 {
			c.doubt(touched...)
		}
	}, nil)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if resp.Inode == nil {
		return nil, nil
	}
	return c.overlay(resp.Inode), nil
}

// Lookup finds a name in a directory.
func (c *Client) Lookup(dir uint64, name string) (*csvpb.Inode, error) {
	return c.inodeOf(&csvpb.Request{Op: &csvpb.Request_Lookup{Lookup: &csvpb.Lookup{Dir: dir, Name: []byte(name)}}})
}

// Stat returns an inode's attributes as they are now on all nodes.
func (c *Client) Stat(ino uint64) (*csvpb.Inode, error) {
	c.mu.Lock()
	if in := c.inodes[ino]; in != nil && in.mode != csv.None && in.attr != nil && !in.stale && !in.recalling {
		defer c.mu.Unlock()
		in.used = c.tick
		return c.overlay(in.attr), nil
	}
	c.mu.Unlock()
	return c.inodeOf(&csvpb.Request{Op: &csvpb.Request_GetInode{GetInode: &csvpb.GetInode{Ino: ino}}})
}

// Create makes an inode under a new name.
func (c *Client) Create(m *csvpb.Create) (*csvpb.Inode, error) {
	m.Open = false
	return c.inodeOf(&csvpb.Request{Op: &csvpb.Request_Create{Create: m}, Origin: c.origin}, m.Dir)
}

// CreateOpen makes a file, or takes the one that is there unless m.Exclusive, and
// opens it.
func (c *Client) CreateOpen(m *csvpb.Create) (*csvpb.Inode, error) {
	m.Open = true
	resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_Create{Create: m}, Origin: c.origin}, func(r *csvpb.Response) {
		if r.Errno == 0 && r.Inode != nil {
			c.opens[r.Inode.Ino]++
			c.doubt(m.Dir)
		}
	}, nil)
	if err != nil {
		return nil, err
	}
	if resp.Inode == nil {
		return nil, fmt.Errorf("%q was made, and removed since: %w", m.Name, syscall.ESTALE)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.overlay(resp.Inode), nil
}

// Link gives an inode another name.
func (c *Client) Link(ino, dir uint64, name string) (*csvpb.Inode, error) {
	return c.inodeOf(&csvpb.Request{Op: &csvpb.Request_Link{Link: &csvpb.Link{Ino: ino, Dir: dir, Name: []byte(name)}}, Origin: c.origin}, dir)
}

// Remove removes a name; directory says that it must be a directory's.
func (c *Client) Remove(dir uint64, name string, directory bool) error {
	req := &csvpb.Request{Op: &csvpb.Request_Remove{Remove: &csvpb.Remove{Dir: dir, Name: []byte(name), Directory: directory}}, Origin: c.origin}
	_, err := c.do(req, func(r *csvpb.Response) {
		if r.Errno == 0 {
			c.doubt(dir)
			if r.Inode != nil {
				c.doubt(r.Inode.Ino)
			}
		}
	}, nil)
	return err
}

// Rename moves a name; flags are those of renameat2(2). What was written is recorded
// first: who replaces a file by another has what the one or the other held, whatever is
// lost.
func (c *Client) Rename(dir uint64, name string, newDir uint64, newName string, flags uint32) error {
	if err := c.tellAll(); err != nil {
		return err
	}
	req := &csvpb.Request{Op: &csvpb.Request_Rename{Rename: &csvpb.Rename{
		Dir: dir, Name: []byte(name), NewDir: newDir, NewName: []byte(newName), Flags: flags,
	}}, Origin: c.origin}
	_, err := c.do(req, func(r *csvpb.Response) {
		if r.Errno != 0 {
			return
		}
		c.doubt(dir, newDir)
		for _, in := range c.inodes { // what was moved is not named in the answer
			in.stale = true
		}
		if r.Inode != nil {
			c.doubt(r.Inode.Ino)
		}
	}, nil)
	return err
}

// SetAttr changes attributes, the size included. What was written before is recorded
// before, with the time at which it was.
func (c *Client) SetAttr(m *csvpb.SetAttr) (*csvpb.Inode, error) {
	if err := c.tell(m.Ino); err != nil {
		return nil, err
	}
	if m.Mtime != nil || m.Size != nil {
		c.mu.Lock()
		if in := c.inodes[m.Ino]; in != nil {
			in.mtime = 0
		}
		c.mu.Unlock()
	}
	return c.inodeOf(&csvpb.Request{Op: &csvpb.Request_SetAttr{SetAttr: m}, Origin: c.origin})
}

// ReadDir lists a directory in whole, without "." and "..".
func (c *Client) ReadDir(dir uint64) ([]*csvpb.Entry, error) {
	var all []*csvpb.Entry
	var after []byte
	for {
		resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_ReadDir{ReadDir: &csvpb.ReadDir{Dir: dir, After: after, Limit: 1024}}}, nil, nil)
		if err != nil {
			return nil, err
		}
		if len(resp.Entries) == 0 {
			return all, nil
		}
		all = append(all, resp.Entries...)
		after = all[len(all)-1].Name
	}
}

// StatFS returns the volume's size and what is free, in bytes.
func (c *Client) StatFS() (size, free int64, err error) {
	resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_StatFs{StatFs: &csvpb.StatFS{}}}, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	return resp.Size, resp.Free, nil
}
