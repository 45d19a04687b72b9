package agent

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// hasty is a connection on which the kernel waits for a fifth of a second, and its other
// end.
func hasty(t *testing.T) (conn, end net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return withSocket(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 200) })
	}}
	if conn, err = d.DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if end, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = conn.Close(), end.Close() })
	return conn, end
}

// TestTargetThatReadsNothingForAMomentIsNotLost has two targets read nothing for as long
// as the kernel waits for one of them.
func TestTargetThatReadsNothingForAMomentIsNotLost(t *testing.T) {
	lost, _ := hasty(t)
	kept, keptEnd := hasty(t)
	if err := patient(kept); err != nil {
		t.Fatal(err)
	}
	memory := make([]byte, 32<<20) // more than both ends' kernels take
	done := make(chan error, 1)
	go func() {
		_, err := kept.Write(memory)
		done <- err
	}()
	if _, err := lost.Write(memory); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Fatalf("the kernel bounds a full window no more: %v", err)
	}
	got := bytes.NewBuffer(make([]byte, 0, len(memory)))
	if _, err := io.CopyN(got, keptEnd, int64(len(memory))); err != nil {
		t.Errorf("of %d bytes %d came: %v", len(memory), got.Len(), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
