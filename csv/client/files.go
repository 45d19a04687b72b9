package client

import (
	"errors"
	"syscall"

	"go.uber.org/zap"

	"quorate/csv"
	"quorate/csv/csvpb"
)

// growOnly is a mode of Allocate that fallocate(2) does not have: the file gets
// longer, and no space.
const growOnly = 1 << 16

// Open notes that a file is in use on this node: it outlives its last name.
func (c *Client) Open(ino uint64) error {
	in := c.inode(ino)
	in.opening.Lock()
	defer in.opening.Unlock()
	c.mu.Lock()
	if c.opens[ino] > 0 {
		c.opens[ino]++
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_Open{Open: &csvpb.Open{Ino: ino}}}, func(r *csvpb.Response) {
		if r.Errno == 0 {
			c.opens[ino]++
		}
	}, nil)
	return err
}

// Release undoes one Open or CreateOpen.
func (c *Client) Release(ino uint64) error {
	if err := errors.Join(c.tell(ino), c.tellTime(ino)); err != nil {
		c.log.Debug("what was written last, or when, was not recorded", zap.Error(err))
	}
	in := c.inode(ino)
	in.opening.Lock()
	defer in.opening.Unlock()
	c.mu.Lock()
	c.opens[ino]--
	last := c.opens[ino] <= 0
	if last {
		delete(c.opens, ino)
	}
	c.mu.Unlock()
	if !last {
		return nil
	}
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_Close{Close: &csvpb.Close{Ino: ino}}}, nil, nil)
	return err
}

// Allocate is fallocate(2), with its mode.
func (c *Client) Allocate(ino uint64, mode uint32, off, n int64) error {
	if mode&growOnly != 0 {
		return syscall.EOPNOTSUPP
	}
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_Allocate{Allocate: &csvpb.Allocate{Ino: ino, Mode: mode, Off: off, Len: n}}, Origin: c.origin}, nil, nil)
	return err
}

// SetLock takes or releases a lock for an owner on this node. With wait it waits
// until the lock is free, or until stop is closed (EINTR); without, it returns
// EAGAIN.
func (c *Client) SetLock(l csv.Lock, wait bool, stop <-chan struct{}) error {
	l.Owner.Node = c.o.Node
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_SetLock{SetLock: &csvpb.SetLock{Lock: lockTo(l), Wait: wait}}}, func(r *csvpb.Response) {
		if r.Errno == 0 {
			c.locks.Set(l)
			c.o.Keep.Locked(l)
		}
	}, stop)
	return err
}

// TestLock returns a lock that keeps l from being taken.
func (c *Client) TestLock(l csv.Lock) (csv.Lock, bool, error) {
	l.Owner.Node = c.o.Node
	resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_TestLock{TestLock: &csvpb.TestLock{Lock: lockTo(l)}}}, nil, nil)
	if err != nil || resp.Lock == nil {
		return csv.Lock{}, false, err
	}
	h := resp.Lock
	return csv.Lock{
		Ino: h.Ino, Class: csv.Class(h.Class), Type: csv.LockType(h.Type), Start: h.Start, End: h.End, PID: h.Pid,
	}, true, nil
}

// ReleaseLocks drops all locks of one owner on a file.
func (c *Client) ReleaseLocks(ino, owner uint64) error {
	o := csv.Owner{Node: c.o.Node, Owner: owner}
	c.mu.Lock()
	any := c.locks.Holds(ino, o)
	c.mu.Unlock()
	if !any {
		return nil
	}
	_, err := c.do(&csvpb.Request{Op: &csvpb.Request_ReleaseLocks{ReleaseLocks: &csvpb.ReleaseLocks{Ino: ino, Owner: owner}}}, func(*csvpb.Response) {
		c.locks.Release(ino, o)
		c.o.Keep.Unlocked(ino, owner)
	}, nil)
	return err
}

func lockTo(l csv.Lock) *csvpb.Lock {
	return &csvpb.Lock{
		Ino: l.Ino, Class: uint32(l.Class), Type: uint32(l.Type), Owner: l.Owner.Owner, Start: l.Start, End: l.End, Pid: l.PID,
	}
}
