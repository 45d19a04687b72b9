package node

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout makes a connection fail when the other side is gone without a
// word (RFC 5482).
func setUserTimeout(_, _ string, c syscall.RawConn) error {
	var err error
	if cerr := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	}); cerr != nil {
		return cerr
	}
	return err
}
