package agent

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// patient lets a stream stand still for as long as the relay does. The kernel takes
// TCP_USER_TIMEOUT, by which the loss of a node is noticed early, for a bound on a
// full window too: a target that is alive, and reads nothing for a moment because its
// QEMU has no processor, would count as lost. The control connection, on which little
// is sent and always read, keeps what it has. Connections that are not TCP are left
// as they are.
func patient(c net.Conn) error {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	return withSocket(raw, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(stalled.Milliseconds()))
	})
}

// withSocket does something to a socket.
func withSocket(raw syscall.RawConn, do func(fd int) error) error {
	var err error
	cerr := raw.Control(func(fd uintptr) { err = do(int(fd)) })
	return errors.Join(cerr, err)
}
