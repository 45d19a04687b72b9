package scsi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"quorate/disk"
)

// Limits are what a unit says about the size of a transfer (VPD page 0xB0).
type Limits struct {
	// MaxTransfer is in bytes; zero where the unit does not say.
	MaxTransfer int64
}

// Ready waits until the unit answers TEST UNIT READY, and consumes the unit
// attentions that a new session begins with.
func Ready(ctx context.Context, t Transport) error {
	var err error
	for range 16 {
		_, err = Run(ctx, t, "TEST UNIT READY", Command{CDB: make([]byte, 6)})
		var ua *disk.AttentionError
		if !errors.As(err, &ua) {
			break
		}
	}
	return err
}

// Identify asks a unit who it is and how large.
func Identify(ctx context.Context, t Transport, url string) (disk.Info, Limits, error) {
	info, lim := disk.Info{URL: url}, Limits{}
	std, err := inquiry(ctx, t, -1)
	if err != nil {
		return info, lim, err
	}
	if len(std) < 36 {
		return info, lim, fmt.Errorf("INQUIRY: the answer has %d bytes, at least 36 are due", len(std))
	}
	if q, kind := std[0]>>5, std[0]&0x1f; q != 0 || kind != 0 {
		return info, lim, fmt.Errorf("the unit is no disk (peripheral qualifier %d, type %#02x): %w", q, kind, disk.ErrUnsupported)
	}
	info.Vendor, info.Product = text(std[8:16]), text(std[16:32])
	if p, err := inquiry(ctx, t, 0x80); err == nil {
		info.Serial = text(page(p, 0x80))
	} else if fatal(err) {
		return info, lim, err
	}
	if p, err := inquiry(ctx, t, 0x83); err == nil {
		info.ID = identity(page(p, 0x83))
	} else if fatal(err) {
		return info, lim, err
	}
	if info.Size, info.BlockSize, err = capacity(ctx, t); err != nil {
		return info, lim, err
	}
	if p, err := inquiry(ctx, t, 0xb0); err == nil {
		if b := page(p, 0xb0); len(b) >= 8 {
			lim.MaxTransfer = int64(binary.BigEndian.Uint32(b[4:])) * int64(info.BlockSize)
		}
	} else if fatal(err) {
		return info, lim, err
	}
	return info, lim, nil
}

// fatal tells whether an error is about more than one page that is missing.
func fatal(err error) bool {
	var sense *disk.SenseError
	return !errors.As(err, &sense)
}

// inquiry reads a vital product data page, or the standard data for -1.
func inquiry(ctx context.Context, t Transport, vpd int) ([]byte, error) {
	const size = 252
	cdb := []byte{0x12, 0, 0, 0, size, 0}
	name := "INQUIRY"
	if vpd >= 0 {
		cdb[1], cdb[2] = 1, byte(vpd)
		name = fmt.Sprintf("INQUIRY, page %#02x", vpd)
	}
	buf := make([]byte, size)
	n, err := Run(ctx, t, name, Command{CDB: cdb, Direction: In, Data: buf})
	return buf[:n], err
}

// page checks a VPD page's header and returns its body.
func page(p []byte, code byte) []byte {
	if len(p) < 4 || p[1] != code {
		return nil
	}
	n := int(binary.BigEndian.Uint16(p[2:]))
	return p[4:min(len(p), 4+n)]
}

// identity picks the best designator of the logical unit from VPD page 0x83
// (SPC-4 7.8.6): NAA, then EUI-64, then T10 vendor, then NAA locally assigned, then
// SCSI name.
func identity(b []byte) string {
	best, rank := "", 0
	for len(b) >= 4 {
		n := int(b[3])
		if len(b) < 4+n {
			break
		}
		set, assoc, kind, d := b[0]&0xf, b[1]>>4&3, b[1]&0xf, b[4:4+n]
		b = b[4+n:]
		if assoc != 0 || n == 0 {
			continue
		}
		id, r := "", 0
		switch kind {
		case 3:
			id, r = "naa."+hex.EncodeToString(d), 5
			if d[0]>>4 == 3 {
				r = 2 // locally assigned: two targets may use the same
			}
		case 2:
			id, r = "eui."+hex.EncodeToString(d), 4
		case 1:
			id, r = "t10."+strings.Join(strings.Fields(printable(d)), "_"), 3
		case 8:
			id, r = text(d), 1
		}
		if kind == 3 && set == 1 && strings.Trim(hex.EncodeToString(d), "0") == "" {
			continue // an all-zero NAA names nothing
		}
		if r > rank {
			best, rank = id, r
		}
	}
	return best
}

func printable(b []byte) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e {
			return ' '
		}
		return r
	}, string(b))
}

func text(b []byte) string { return strings.TrimSpace(printable(b)) }

// capacity is READ CAPACITY (16), or (10) where that is all there is.
func capacity(ctx context.Context, t Transport) (size int64, blockSize int, err error) {
	buf := make([]byte, 32)
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[13] = 0x9e, 0x10, byte(len(buf))
	n, err := Run(ctx, t, "READ CAPACITY (16)", Command{CDB: cdb, Direction: In, Data: buf})
	var last, bs uint64
	switch {
	case err == nil && n >= 12:
		last, bs = binary.BigEndian.Uint64(buf), uint64(binary.BigEndian.Uint32(buf[8:]))
	case err == nil:
		return 0, 0, fmt.Errorf("READ CAPACITY (16): the answer has %d bytes, at least 12 are due", n)
	case fatal(err):
		return 0, 0, err
	default:
		n, err = Run(ctx, t, "READ CAPACITY (10)", Command{CDB: []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, Direction: In, Data: buf[:8]})
		if err != nil {
			return 0, 0, err
		}
		if n < 8 {
			return 0, 0, fmt.Errorf("READ CAPACITY (10): the answer has %d bytes, 8 are due", n)
		}
		last, bs = uint64(binary.BigEndian.Uint32(buf)), uint64(binary.BigEndian.Uint32(buf[4:]))
	}
	if bs != 512 && bs != 4096 {
		return 0, 0, fmt.Errorf("the unit has blocks of %d bytes; 512 and 4096 are supported: %w", bs, disk.ErrUnsupported)
	}
	if last >= (1<<62)/bs {
		return 0, 0, fmt.Errorf("the unit says that its last block is %d, which cannot be", last)
	}
	return int64((last + 1) * bs), int(bs), nil
}

// ReportLUNs lists the logical units of a target; t may be any unit of it.
// Only units addressed by the peripheral and flat methods are listed.
func ReportLUNs(ctx context.Context, t Transport) ([]int, error) {
	const size = 8 + 8*512
	buf := make([]byte, size)
	cdb := make([]byte, 12)
	cdb[0] = 0xa0
	binary.BigEndian.PutUint32(cdb[6:], size)
	n, err := Run(ctx, t, "REPORT LUNS", Command{CDB: cdb, Direction: In, Data: buf})
	if err != nil {
		return nil, err
	}
	if n < 8 {
		return nil, fmt.Errorf("REPORT LUNS: the answer has %d bytes, at least 8 are due", n)
	}
	var luns []int
	for b := buf[8:min(n, 8+int(min(binary.BigEndian.Uint32(buf), size)))]; len(b) >= 8; b = b[8:] {
		switch b[0] >> 6 {
		case 0:
			luns = append(luns, int(b[1]))
		case 1:
			luns = append(luns, int(b[0]&0x3f)<<8|int(b[1]))
		}
	}
	return luns, nil
}
