package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"quorate/disk"
)

const maxKeys = 1024 // registrations read from one unit

// Reservations is PERSISTENT RESERVE IN, READ KEYS and READ RESERVATION. Both
// are repeated until they were seen at one generation, a few times at most.
func Reservations(ctx context.Context, t Transport) (disk.Reservations, error) {
	for range 8 {
		keys, err := persistIn(ctx, t, 0, "READ KEYS", 8+8*maxKeys)
		if err != nil {
			return disk.Reservations{}, err
		}
		held, err := persistIn(ctx, t, 1, "READ RESERVATION", 24)
		if err != nil {
			return disk.Reservations{}, err
		}
		r := disk.Reservations{Generation: binary.BigEndian.Uint32(keys)}
		if binary.BigEndian.Uint32(held) != r.Generation {
			continue
		}
		for b := keys[8:]; len(b) >= 8; b = b[8:] {
			r.Keys = append(r.Keys, disk.Key(binary.BigEndian.Uint64(b)))
		}
		if b := held[8:]; len(b) >= 16 {
			r.Type = disk.Type(b[13] & 0xf)
			if r.Type != 7 && r.Type != 8 {
				r.Holder = disk.Key(binary.BigEndian.Uint64(b))
			}
		}
		return r, nil
	}
	return disk.Reservations{}, fmt.Errorf("PERSISTENT RESERVE IN: keys and reservation changed each time that they were read; try again when no other node is registering")
}

// persistIn returns the answer's header and as much of its body as is there.
func persistIn(ctx context.Context, t Transport, action byte, name string, size uint16) ([]byte, error) {
	name = "PERSISTENT RESERVE IN, " + name
	cdb := make([]byte, 10)
	cdb[0], cdb[1] = 0x5e, action
	binary.BigEndian.PutUint16(cdb[7:], size)
	buf := make([]byte, size)
	n, err := Run(ctx, t, name, Command{CDB: cdb, Direction: In, Data: buf})
	if err != nil {
		return nil, err
	}
	if n < 8 {
		return nil, fmt.Errorf("%s: the answer has %d bytes, at least 8 are due", name, n)
	}
	if action > 1 {
		return buf[:n], nil
	}
	length := binary.BigEndian.Uint32(buf[4:])
	if int64(length) > int64(n-8) {
		return nil, fmt.Errorf("%s: the target announces %d bytes and sent %d", name, length, n-8)
	}
	return buf[:8+length], nil
}

// actionNames are for errors.
var actionNames = map[disk.Action]string{
	disk.Register: "REGISTER", disk.ReserveAction: "RESERVE", disk.Release: "RELEASE", disk.Clear: "CLEAR",
	disk.Preempt: "PREEMPT", disk.PreemptAbort: "PREEMPT AND ABORT", disk.RegisterIgnore: "REGISTER AND IGNORE EXISTING KEY",
}

// Reserve is PERSISTENT RESERVE OUT. What the target refuses as unknown
// (20/00), or as an invalid field (24/00, 26/00) of PREEMPT AND ABORT or of a
// command with APTPL, wraps disk.ErrUnsupported.
func Reserve(ctx context.Context, t Transport, r disk.ReserveOut) error {
	name, ok := actionNames[r.Action]
	if !ok {
		return fmt.Errorf("PERSISTENT RESERVE OUT: there is no service action %#02x", byte(r.Action))
	}
	cdb := make([]byte, 10)
	cdb[0], cdb[1], cdb[2] = 0x5f, byte(r.Action), byte(r.Type)&0xf
	cdb[8] = 24
	p := make([]byte, 24)
	binary.BigEndian.PutUint64(p, uint64(r.Key))
	binary.BigEndian.PutUint64(p[8:], uint64(r.ServiceKey))
	if r.Persist {
		p[20] = 1
	}
	name = fmt.Sprintf("PERSISTENT RESERVE OUT, %s with key %s", name, r.Key)
	_, err := Run(ctx, t, name, Command{CDB: cdb, Direction: Out, Data: p})
	var sense *disk.SenseError
	if (r.Persist || r.Action == disk.PreemptAbort) && errors.As(err, &sense) && sense.Key == 5 && (sense.ASC == 0x24 || sense.ASC == 0x26) {
		return fmt.Errorf("%w: %w", disk.ErrUnsupported, err)
	}
	return err
}

// probeKey is registered by nobody, so a command that names it as the sender's
// key changes nothing: a target that knows the command says CONFLICT.
const probeKey disk.Key = 0x51756f7261746500

// Capabilities asks a unit what it can do, and tries what it does not say.
// Nothing is changed by it.
func Capabilities(ctx context.Context, t Transport) (disk.Capabilities, error) {
	c := disk.Capabilities{WriteCache: true}
	var err error
	if c.WriteCache, c.FUA, err = caching(ctx, t); err != nil {
		return c, err
	}
	if _, err := persistIn(ctx, t, 0, "READ KEYS", 8+8*maxKeys); err != nil {
		if fatal(err) {
			return c, err
		}
		return c, nil
	}
	c.Reservations = true
	c.Types = allTypes()
	b, err := persistIn(ctx, t, 2, "REPORT CAPABILITIES", 8)
	switch {
	case err == nil:
		c.Persist = b[2]&1 != 0
		if b[3]&0x80 != 0 {
			c.Types = types(binary.BigEndian.Uint16(b[4:]))
		}
	case fatal(err):
		return c, err
	}
	err = Reserve(ctx, t, disk.ReserveOut{Action: disk.PreemptAbort, Key: probeKey, ServiceKey: probeKey + 1, Type: disk.WriteExclusiveRegistrantsOnly})
	switch {
	case errors.Is(err, disk.ErrConflict):
		c.PreemptAbort = true
	case err != nil && fatal(err):
		return c, err
	}
	return c, nil
}

func allTypes() []disk.Type { return []disk.Type{1, 3, 5, 6, 7, 8} }

// types reads the type mask of REPORT CAPABILITIES (SPC-4 table 63).
func types(mask uint16) []disk.Type {
	var out []disk.Type
	for _, t := range allTypes() {
		bit := uint16(1) << (8 + t)
		if t == 8 {
			bit = 1
		}
		if mask&bit != 0 {
			out = append(out, t)
		}
	}
	return out
}

// caching reads WCE from the caching mode page and DPOFUA from its header. A
// unit that does not say is taken to have a cache and no FUA.
func caching(ctx context.Context, t Transport) (cache, fua bool, err error) {
	buf := make([]byte, 192)
	cdb := []byte{0x1a, 0x08, 0x08, 0, byte(len(buf)), 0}
	n, err := Run(ctx, t, "MODE SENSE (6), caching", Command{CDB: cdb, Direction: In, Data: buf})
	if err != nil {
		if fatal(err) {
			return true, false, err
		}
		return true, false, nil
	}
	if n < 4 {
		return true, false, nil
	}
	fua = buf[2]&0x10 != 0
	b := buf[min(n, 4+int(buf[3])):n]
	if len(b) < 3 || b[0]&0x3f != 0x08 {
		return true, fua, nil
	}
	return b[2]&0x04 != 0, fua, nil
}
