// Package block reaches a LUN through a kernel's SCSI block device, such as
// /dev/disk/by-id/... of the kernel's own iSCSI or Fibre Channel initiator. It
// speaks SCSI through SG_IO, reads and writes included.
//
// It is called by disk/open. It makes no sessions: those are the kernel's.
//
// Traps: data goes by READ and WRITE (16) through SG_IO, not by pread and
// pwrite, because the kernel consumes UNIT ATTENTION on its own reads and writes,
// and the gate (disk.Guard) would not learn that the target had restarted. The
// page cache of the same device is not coherent with it: let nothing else use
// the device. A command cannot be called back from the kernel: when its caller's
// context ends, it runs on until the kernel's time limit.
package block

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"quorate/disk"
	"quorate/disk/scsi"
)

// Options tell how to use a device.
type Options struct {
	// Timeout is how long the kernel waits for a command; 0 means 30 s. It
	// is the grain in which a lost path is noticed.
	Timeout time.Duration
}

// Validate lists all faults.
func (o Options) Validate() error {
	if o.Timeout != 0 && (o.Timeout < time.Second || o.Timeout > 10*time.Minute) {
		return fmt.Errorf("block device: timeout %v is not from 1s to 10m", o.Timeout)
	}
	return nil
}

const (
	defaultTimeout = 30 * time.Second
	maxInFlight    = 128
)

// Open opens the SCSI block device at path.
func Open(ctx context.Context, path string, o Options) (disk.LUN, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &device{path: path, fd: fd, o: o, slots: make(chan struct{}, maxInFlight)}
	if err := d.check(); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), d.Close())
	}
	u, err := scsi.NewUnit(ctx, d, path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), d.Close())
	}
	return u, nil
}

// device is a scsi.Transport over a file descriptor.
type device struct {
	path  string
	fd    int
	o     Options
	limit int64 // bytes in one transfer
	slots chan struct{}

	mu sync.Mutex
	// All below is guarded by mu.
	closed bool
	inside int // commands in the kernel; the last one out closes fd
}

var _ scsi.Transport = (*device)(nil)

func (d *device) check() error {
	var st unix.Stat_t
	if err := unix.Fstat(d.fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK && st.Mode&unix.S_IFMT != unix.S_IFCHR {
		return errors.New("it is not a device")
	}
	sectors, err := maxSectors(d.fd)
	if err != nil {
		sectors = 256 // 128 KiB, which every host adapter takes
	}
	d.limit = int64(sectors) * 512
	return nil
}

// MaxTransfer is the kernel's bound of one transfer in bytes.
func (d *device) MaxTransfer() int64 { return d.limit }

// enter counts a command in.
func (d *device) enter(ctx context.Context) error {
	select {
	case d.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		<-d.slots
		return fmt.Errorf("%s: %w", d.path, disk.ErrClosed)
	}
	d.inside++
	return nil
}

func (d *device) leave() {
	<-d.slots
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside--
	if d.closed && d.inside == 0 {
		_ = unix.Close(d.fd)
	}
}

// Do carries out one command. The buffer that the kernel sees is its own, so
// that the caller may leave before the kernel is done.
func (d *device) Do(ctx context.Context, c scsi.Command) (scsi.Result, error) {
	if err := d.enter(ctx); err != nil {
		return scsi.Result{}, err
	}
	data := make([]byte, len(c.Data))
	if c.Direction == scsi.Out {
		copy(data, c.Data)
	}
	type answer struct {
		r   scsi.Result
		err error
	}
	done := make(chan answer, 1)
	cdb := append([]byte(nil), c.CDB...)
	go func() {
		defer d.leave()
		r, err := sgIO(d.fd, cdb, c.Direction, data, d.o.Timeout)
		done <- answer{r, err}
	}()
	select {
	case a := <-done:
		if a.err == nil && c.Direction == scsi.In {
			copy(c.Data, data)
		}
		return a.r, a.err
	case <-ctx.Done():
		return scsi.Result{}, ctx.Err()
	}
}

// ResetUnit is SG_SCSI_RESET of the device, without going on to the bus.
func (d *device) ResetUnit(ctx context.Context) error {
	if err := d.enter(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		defer d.leave()
		done <- sgReset(d.fd)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends the use of the device; what is in the kernel ends by itself.
func (d *device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if d.inside > 0 {
		return nil
	}
	return os.NewSyscallError("close", unix.Close(d.fd))
}
