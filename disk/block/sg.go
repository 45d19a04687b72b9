package block

import (
	"errors"
	"fmt"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"quorate/disk"
	"quorate/disk/scsi"
)

// From scsi/sg.h and linux/fs.h.
const (
	ioctlSG         = 0x2285 // SG_IO
	ioctlSGReset    = 0x2284 // SG_SCSI_RESET
	ioctlMaxSectors = 0x1267 // BLKSECTGET

	sgNone, sgOut, sgIn = -1, -2, -3
	resetDevice         = 1     // SG_SCSI_RESET_DEVICE
	resetNoEscalate     = 0x100 // SG_SCSI_RESET_NO_ESCALATE
)

// sgHeader is struct sg_io_hdr.
type sgHeader struct {
	interfaceID  int32
	direction    int32
	cmdLen       uint8
	senseMax     uint8
	iovecs       uint16
	dataLen      uint32
	data         unsafe.Pointer
	cmd          unsafe.Pointer
	sense        unsafe.Pointer
	timeout      uint32 // milliseconds
	flags        uint32
	packID       int32
	user         unsafe.Pointer
	status       uint8
	maskedStatus uint8
	msgStatus    uint8
	senseLen     uint8
	hostStatus   uint16
	driverStatus uint16
	residual     int32
	duration     uint32
	info         uint32
}

func ioctl(fd int, op uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), op, uintptr(arg))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return e
	}
}

// sgIO carries out one command and blocks until the kernel has its outcome.
func sgIO(fd int, cdb []byte, dir scsi.Direction, data []byte, timeout time.Duration) (scsi.Result, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	sense := make([]byte, 64)
	h := &sgHeader{
		interfaceID: 'S', direction: sgNone,
		cmdLen: uint8(len(cdb)), cmd: unsafe.Pointer(&cdb[0]),
		senseMax: uint8(len(sense)), sense: unsafe.Pointer(&sense[0]),
		timeout: uint32(timeout.Milliseconds()),
	}
	pin.Pin(&cdb[0])
	pin.Pin(&sense[0])
	if len(data) > 0 {
		h.direction = sgOut
		if dir == scsi.In {
			h.direction = sgIn
		}
		pin.Pin(&data[0])
		h.data, h.dataLen = unsafe.Pointer(&data[0]), uint32(len(data))
	}
	if err := ioctl(fd, ioctlSG, unsafe.Pointer(h)); err != nil {
		return scsi.Result{}, pathError("SG_IO", err)
	}
	runtime.KeepAlive(h)
	return h.result(sense, len(data))
}

func (h *sgHeader) result(sense []byte, n int) (scsi.Result, error) {
	r := scsi.Result{Status: h.status, Moved: n - int(h.residual)}
	if h.hostStatus != 0 {
		// The adapter's verdict: no connection, timed out, reset.
		return r, fmt.Errorf("SG_IO: the host adapter gave up the command (host status %#x): %w", h.hostStatus, disk.ErrPathLost)
	}
	if h.driverStatus&0xf == 0x6 { // DRIVER_TIMEOUT
		return r, fmt.Errorf("SG_IO: no answer in time: %w", disk.ErrPathLost)
	}
	r.Key, r.ASC, r.ASCQ = parseSense(sense[:min(int(h.senseLen), len(sense))])
	return r, nil
}

// parseSense reads fixed and descriptor format sense data (SPC-4 4.5).
func parseSense(b []byte) (key, asc, ascq byte) {
	if len(b) < 1 {
		return 0, 0, 0
	}
	switch b[0] & 0x7f {
	case 0x70, 0x71:
		if len(b) >= 14 {
			return b[2] & 0xf, b[12], b[13]
		}
		if len(b) >= 3 {
			return b[2] & 0xf, 0, 0
		}
	case 0x72, 0x73:
		if len(b) >= 4 {
			return b[1] & 0xf, b[2], b[3]
		}
	}
	return 0, 0, 0
}

func sgReset(fd int) error {
	how := int32(resetDevice | resetNoEscalate)
	if err := ioctl(fd, ioctlSGReset, unsafe.Pointer(&how)); err != nil {
		if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("SG_SCSI_RESET: %w", disk.ErrUnsupported)
		}
		return fmt.Errorf("SG_SCSI_RESET was not completed: %w", err)
	}
	return nil
}

func maxSectors(fd int) (uint16, error) {
	var n uint16
	err := ioctl(fd, ioctlMaxSectors, unsafe.Pointer(&n))
	if err == nil && n == 0 {
		err = errors.New("the device takes no sectors at all")
	}
	return n, err
}

// pathError tells a device that is no SCSI device from one that is gone.
func pathError(what string, err error) error {
	if errors.Is(err, unix.ENOTTY) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("%s: the device takes no SCSI commands: %w: %w", what, err, disk.ErrUnsupported)
	}
	return fmt.Errorf("%s: %w: %w", what, err, disk.ErrPathLost)
}
