package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"quorate/disk"
)

// maxTransfer bounds one READ or WRITE in bytes, where the unit allows more or
// does not say.
const maxTransfer = 1 << 20

// Unit is a disk.LUN over a Transport. The data path uses READ and WRITE (16)
// and SYNCHRONIZE CACHE only, which every target checks against reservations.
type Unit struct {
	t      Transport
	info   disk.Info // but for its size
	size   atomic.Int64
	chunk  int
	sync10 atomic.Bool // SYNCHRONIZE CACHE (16) is not known there
}

var (
	_ disk.LUN       = (*Unit)(nil)
	_ disk.Rescanner = (*Unit)(nil)
)

// NewUnit waits until the unit behind t is ready, identifies it and returns it.
// On error t stays open. A transport with a method MaxTransfer() int64 bounds
// its transfers by it, in bytes.
func NewUnit(ctx context.Context, t Transport, url string) (*Unit, error) {
	if err := Ready(ctx, t); err != nil {
		return nil, err
	}
	info, lim, err := Identify(ctx, t, url)
	if err != nil {
		return nil, err
	}
	chunk := int64(maxTransfer)
	if lim.MaxTransfer > 0 {
		chunk = min(chunk, lim.MaxTransfer)
	}
	if l, ok := t.(interface{ MaxTransfer() int64 }); ok && l.MaxTransfer() > 0 {
		chunk = min(chunk, l.MaxTransfer())
	}
	chunk -= chunk % int64(info.BlockSize)
	if chunk == 0 {
		return nil, fmt.Errorf("the unit takes no transfer of a whole block of %d bytes", info.BlockSize)
	}
	u := &Unit{t: t, info: info, chunk: int(chunk)}
	u.size.Store(info.Size)
	return u, nil
}

// Info describes the unit as it was when it was opened, and its size as it was last read.
func (u *Unit) Info() disk.Info {
	info := u.info
	info.Size = u.size.Load()
	return info
}

// Rescan is READ CAPACITY (SBC-3 5.16) once more. Blocks that have another size than
// before are another unit's.
func (u *Unit) Rescan(ctx context.Context) (disk.Info, error) {
	size, bs, err := capacity(ctx, u.t)
	if err == nil && bs != u.info.BlockSize {
		err = fmt.Errorf("its blocks have %d bytes now, and had %d: %w", bs, u.info.BlockSize, disk.ErrUnsupported)
	}
	if err != nil {
		return disk.Info{}, u.about("read the size of", err)
	}
	u.size.Store(size)
	return u.Info(), nil
}

// within is disk.CheckRange. What lies beyond the end that is known makes the unit look
// whether it has grown: another node may have taken that in.
func (u *Unit) within(ctx context.Context, off int64, n int) error {
	err := disk.CheckRange(u.Info(), off, n)
	if err == nil || off < 0 || off+int64(n) <= u.size.Load() {
		return err
	}
	if _, rerr := u.Rescan(ctx); rerr != nil {
		return rerr
	}
	return disk.CheckRange(u.Info(), off, n)
}

// ReadAt is READ (16), in as many commands as the unit's limit asks for.
func (u *Unit) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := u.within(ctx, off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), u.chunk)
		got, err := Run(ctx, u.t, "READ (16)", Command{CDB: u.rw(0x88, off, n), Direction: In, Data: p[:n]})
		if err == nil && got != n {
			err = fmt.Errorf("READ (16): the target sent %d bytes where %d were asked for", got, n)
		}
		if err != nil {
			return fmt.Errorf("read %d bytes at %d of %s: %w", n, off, u.info.URL, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// WriteAt is WRITE (16), in as many commands as the unit's limit asks for.
func (u *Unit) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := u.within(ctx, off, len(p)); err != nil {
		return err
	}
	for len(p) > 0 {
		n := min(len(p), u.chunk)
		if _, err := Run(ctx, u.t, "WRITE (16)", Command{CDB: u.rw(0x8a, off, n), Direction: Out, Data: p[:n]}); err != nil {
			return fmt.Errorf("write %d bytes at %d of %s: %w", n, off, u.info.URL, err)
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (u *Unit) rw(op byte, off int64, n int) []byte {
	cdb := make([]byte, 16)
	cdb[0] = op
	binary.BigEndian.PutUint64(cdb[2:], uint64(off/int64(u.info.BlockSize)))
	binary.BigEndian.PutUint32(cdb[10:], uint32(n/u.info.BlockSize))
	return cdb
}

// Flush is SYNCHRONIZE CACHE of the whole unit.
func (u *Unit) Flush(ctx context.Context) error {
	if !u.sync10.Load() {
		cdb := make([]byte, 16)
		cdb[0] = 0x91
		_, err := Run(ctx, u.t, "SYNCHRONIZE CACHE (16)", Command{CDB: cdb})
		if !errors.Is(err, disk.ErrUnsupported) {
			return u.about("flush", err)
		}
		u.sync10.Store(true)
	}
	cdb := make([]byte, 10)
	cdb[0] = 0x35
	_, err := Run(ctx, u.t, "SYNCHRONIZE CACHE (10)", Command{CDB: cdb})
	return u.about("flush", err)
}

// Reservations reads keys and reservation at one generation.
func (u *Unit) Reservations(ctx context.Context) (disk.Reservations, error) {
	r, err := Reservations(ctx, u.t)
	return r, u.about("read the reservations of", err)
}

// Reserve carries out one PERSISTENT RESERVE OUT.
func (u *Unit) Reserve(ctx context.Context, r disk.ReserveOut) error {
	return u.about("change the reservations of", Reserve(ctx, u.t, r))
}

// ResetUnit is LOGICAL UNIT RESET.
func (u *Unit) ResetUnit(ctx context.Context) error { return u.about("reset", u.t.ResetUnit(ctx)) }

// Capabilities asks the target what it can do.
func (u *Unit) Capabilities(ctx context.Context) (disk.Capabilities, error) {
	c, err := Capabilities(ctx, u.t)
	return c, u.about("ask what the target can do of", err)
}

// Close closes the transport.
func (u *Unit) Close() error { return u.t.Close() }

// Session passes on the transport's session, where it has any (disk.Sessioned).
func (u *Unit) Session() uint64 {
	if s, ok := u.t.(disk.Sessioned); ok {
		return s.Session()
	}
	return 0
}

func (u *Unit) about(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", what, u.info.URL, err)
}
