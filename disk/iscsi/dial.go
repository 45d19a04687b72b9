//go:build cgo

package iscsi

// #include "conn.h"
import "C"

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"quorate/disk"
)

// resolve turns host:port into address:port, because libiscsi would look a name
// up without bound.
func resolve(portal string, limit time.Duration) (string, error) {
	host, port, err := net.SplitHostPort(portal)
	if err != nil {
		return "", err
	}
	if net.ParseIP(host) != nil {
		return portal, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, disk.ErrPathLost)
	}
	return net.JoinHostPort(addrs[0], port), nil
}

// dial begins a connection; without a target it is one for discovery.
func dial(o Options, addr string) (*C.struct_q_conn, error) {
	var free []unsafe.Pointer
	defer func() {
		for _, p := range free {
			C.free(p)
		}
	}()
	str := func(s string) *C.char {
		p := C.CString(s)
		free = append(free, unsafe.Pointer(p))
		return p
	}
	random, qualifier := o.isid()
	c := C.q_new(str(o.InitiatorName), str(o.Target), C.uint32_t(random), C.uint32_t(qualifier),
		str(o.CHAP.User), str(o.CHAP.Password), str(o.CHAP.PeerUser), str(o.CHAP.PeerPassword), C.int(o.Timeout.Milliseconds()))
	if c == nil {
		return nil, errors.New("libiscsi gave no context: out of memory")
	}
	if C.q_connect(c, str(addr)) < 0 {
		err := lost(c)
		hangUp(c)
		return nil, err
	}
	return c, nil
}

func lost(c *C.struct_q_conn) error {
	return fmt.Errorf("%s: %w", C.GoString(C.q_error(c)), disk.ErrPathLost)
}

func hangUp(c *C.struct_q_conn) {
	C.q_end(c)
	C.q_free(c)
}

// discover is SendTargets (RFC 7143 appendix C) on a session of its own.
func discover(ctx context.Context, o Options) ([]Target, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	addr, err := resolve(o.Portal, o.Timeout)
	if err != nil {
		return nil, err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c, err := dial(o, addr)
	if err != nil {
		return nil, err
	}
	defer hangUp(c)
	asked := false
	for C.q_discovered(c) == nil {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("no answer: %w: %w", err, disk.ErrPathLost)
		}
		if C.q_state(c) == C.Q_UP && !asked {
			asked = true
			C.q_discover(c)
		}
		if C.q_state(c) == C.Q_LOST || C.q_poll(c, -1, C.int(tick.Milliseconds())) < 0 {
			return nil, lost(c)
		}
	}
	return parseTargets(C.GoString(C.q_discovered(c))), nil
}
