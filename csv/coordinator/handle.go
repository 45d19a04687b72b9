package coordinator

import (
	"errors"
	"fmt"
	"syscall"

	"quorate/csv"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
	"quorate/disk"
)

// errSilent ends a request without an answer: the client will ask the next
// coordinator, or is gone.
var errSilent = errors.New("no answer")

// request is one request under way. Its methods are called with the
// coordinator's mu held.
type request struct {
	*Coordinator
	s  *session
	id uint64
	// key is by what the request's result is kept.
	key uint64
}

// handle carries out one request.
func (c *Coordinator) handle(s *session, m *csvpb.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() {
		delete(s.running, m.Id)
		delete(s.cancelled, m.Id)
	}()
	r := &request{Coordinator: c, s: s, id: m.Id, key: resultKey(m)}
	resp, err := r.dispatch(m)
	if errors.Is(err, errSilent) {
		return
	}
	if err != nil {
		resp = &csvpb.Response{Errno: int32(errno(err)), Message: err.Error()}
	}
	if m.Answered > s.forgotten+maxRequests/16 && !c.stopping {
		s.forgotten = m.Answered
		c.v.Forget(s.incarnation, m.Answered)
		c.changedLocked()
	}
	resp.Id = m.Id
	c.send(s, &csvpb.ToClient{Body: &csvpb.ToClient_Response{Response: resp}})
}

func errno(err error) syscall.Errno {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return syscall.EIO
}

func fenced(err error) bool {
	return errors.Is(err, disk.ErrConflict) || errors.Is(err, disk.ErrClosed) || errors.Is(err, disk.ErrFenced)
}

func (r *request) dispatch(m *csvpb.Request) (*csvpb.Response, error) {
	switch op := m.Op.(type) {
	case *csvpb.Request_Lookup:
		return r.lookup(op.Lookup)
	case *csvpb.Request_GetInode:
		return r.getInode(op.GetInode)
	case *csvpb.Request_Create:
		return r.create(op.Create)
	case *csvpb.Request_Link:
		return r.link(op.Link)
	case *csvpb.Request_Remove:
		return r.remove(op.Remove)
	case *csvpb.Request_Rename:
		return r.rename(op.Rename)
	case *csvpb.Request_SetAttr:
		return r.setAttr(op.SetAttr)
	case *csvpb.Request_ReadDir:
		return r.readDir(op.ReadDir)
	case *csvpb.Request_Open:
		return r.open(op.Open)
	case *csvpb.Request_Close:
		return r.close(op.Close)
	case *csvpb.Request_Map:
		return r.mapBlocks(op.Map)
	case *csvpb.Request_Commit:
		return r.commitWrite(op.Commit)
	case *csvpb.Request_Allocate:
		return r.allocate(op.Allocate)
	case *csvpb.Request_SetLock:
		return r.setLock(op.SetLock)
	case *csvpb.Request_TestLock:
		return r.testLock(op.TestLock)
	case *csvpb.Request_ReleaseLocks:
		return r.releaseLocks(op.ReleaseLocks)
	case *csvpb.Request_StatFs:
		return r.statFS()
	case *csvpb.Request_GetXattr:
		return r.getXattr(op.GetXattr)
	case *csvpb.Request_SetXattr:
		return r.setXattr(op.SetXattr)
	case *csvpb.Request_RemoveXattr:
		return r.removeXattr(op.RemoveXattr)
	case *csvpb.Request_ListXattr:
		return r.listXattr(op.ListXattr)
	case *csvpb.Request_Redirect:
		return r.redirect(op.Redirect)
	case *csvpb.Request_ReadDevice:
		return r.readDevice(op.ReadDevice)
	case *csvpb.Request_WriteDevice:
		return r.writeDevice(op.WriteDevice)
	case *csvpb.Request_FlushDevice:
		return r.flushDevice()
	}
	return nil, fmt.Errorf("request %d asks for something this coordinator does not know; upgrade its node: %w", m.Id, syscall.ENOSYS)
}

// wait returns when ready does, outside of the grace period.
func (r *request) wait(ready func() bool) error {
	for {
		switch {
		case r.stopping || r.s.gone:
			return errSilent
		case r.s.cancelled[r.id]:
			return fmt.Errorf("request %d was given up: %w", r.id, syscall.EINTR)
		case len(r.awaited) == 0 && ready():
			return nil
		}
		r.cond.Wait()
	}
}

// alone waits until nobody but the client itself has a lease on the inodes that
// find returns. It calls find again each time, since names may have changed.
func (r *request) alone(find func() []uint64) error {
	return r.wait(func() bool {
		all := true
		for _, ino := range find() {
			ask, ok := r.leases.Blockers(r.s.node, ino, csv.Exclusive)
			r.recall(ask)
			all = all && ok
		}
		return all
	})
}

// untouched waits until nobody at all has a lease on ino.
func (r *request) untouched(ino uint64) error {
	return r.wait(func() bool {
		ask, ok := r.leases.Exclude(ino)
		r.recall(ask)
		return ok
	})
}

// shared waits until the client may have a shared lease on the inode that find
// returns.
func (r *request) shared(find func() uint64) error {
	return r.wait(func() bool {
		ask, ok := r.leases.Blockers(r.s.node, find(), csv.Shared)
		r.recall(ask)
		return ok
	})
}

func (c *Coordinator) recall(ask []csv.Recall) {
	for _, a := range ask {
		if s := c.sessions[a.Holder]; s != nil {
			c.send(s, &csvpb.ToClient{Body: &csvpb.ToClient_Recall{Recall: &csvpb.Recall{Ino: a.Ino, Keep: uint32(a.Keep)}}})
		}
	}
}

// once answers a request that was done before, by the result kept for it.
func (r *request) once() (*csvpb.Response, bool) {
	ino, ok := r.v.Result(r.s.incarnation, r.key)
	if !ok {
		return nil, false
	}
	i, err := r.v.Stat(ino)
	if err != nil {
		return &csvpb.Response{}, true
	}
	return r.withLease(i, csv.None), true
}

// done records a change that must not be done twice, and answers.
func (r *request) done(i volume.Inode, grant csv.Mode) *csvpb.Response {
	r.v.Record(r.s.incarnation, r.key, i.Ino)
	r.s.remember(r.Coordinator, r.key)
	r.changedLocked()
	return r.withLease(i, grant)
}

// withLease answers with an inode and what the client has on it.
func (r *request) withLease(i volume.Inode, grant csv.Mode) *csvpb.Response {
	n := r.leases.Grant(r.s.node, i.Ino, grant)
	return &csvpb.Response{Inode: r.inodeTo(i), Lease: uint32(r.leases.Mode(r.s.node, i.Ino)), Grant: n}
}
