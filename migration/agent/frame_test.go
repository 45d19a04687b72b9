package agent

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"quorate/migration/migrationpb"

	"google.golang.org/protobuf/proto"
)

// bytesConn is a connection that was sent some bytes.
type bytesConn struct {
	net.Conn
	r io.Reader
}

func (c bytesConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c bytesConn) SetWriteDeadline(time.Time) error { return nil }

// sink is a connection that keeps what is written.
type sink struct {
	bytesConn
	bytes.Buffer
}

func (s *sink) Write(p []byte) (int, error) { return s.Buffer.Write(p) }
func (s *sink) Read(p []byte) (int, error)  { return s.Buffer.Read(p) }

func TestFramesTakeNotOneByteMore(t *testing.T) {
	s := &sink{}
	hello := &migrationpb.Hello{Migration: "m1", Role: &migrationpb.Hello_Stream{Stream: &migrationpb.Stream{Index: 3}}}
	if err := writeFrame(s, hello); err != nil {
		t.Fatal(err)
	}
	s.WriteString("QEMU's")
	var got migrationpb.Hello
	if err := readFrame(s, time.Second, &got); err != nil || !proto.Equal(hello, &got) {
		t.Fatalf("%v, %v", &got, err)
	}
	if rest := s.String(); rest != "QEMU's" {
		t.Errorf("left %q", rest)
	}
	big := &migrationpb.Hello{Migration: string(make([]byte, maxFrame+1))}
	if err := writeFrame(s, big); err == nil {
		t.Error("a frame over the bound was written")
	}
	if err := readFrame(bytesConn{r: bytes.NewReader([]byte{0xff, 0, 0, 0})}, time.Second, &got); err == nil {
		t.Error("a frame over the bound was read")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 10, 0})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add(binary.BigEndian.AppendUint32(nil, maxFrame))
	f.Fuzz(func(_ *testing.T, in []byte) {
		c := bytesConn{r: bytes.NewReader(in)}
		for {
			var hello migrationpb.Hello
			if readFrame(c, time.Second, &hello) != nil {
				return
			}
		}
	})
}

// pair is two ends of a unix connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func TestRelayCarriesBothWaysAndTheEnd(t *testing.T) {
	qemu, qemuEnd := pair(t)
	peer, peerEnd := pair(t)
	r := &relay{broken: func(err error) { t.Errorf("broken: %v", err) }}
	r.join(qemuEnd, peerEnd)
	there := bytes.Repeat([]byte("there"), 200_000)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := qemu.Write(there); err != nil {
			t.Error(err)
		}
		_ = qemu.(*net.UnixConn).CloseWrite()
	})
	got, err := io.ReadAll(peer)
	if err != nil || !bytes.Equal(got, there) {
		t.Errorf("%d bytes of %d came, %v", len(got), len(there), err)
	}
	wg.Wait()
	if _, err := peer.Write([]byte("back")); err != nil {
		t.Fatal(err)
	}
	_ = peer.(*net.UnixConn).CloseWrite()
	if got, err := io.ReadAll(qemu); err != nil || string(got) != "back" {
		t.Errorf("%q came back, %v", got, err)
	}
	r.wg.Wait()
	if n := r.sent.Load(); n != int64(len(there)) {
		t.Errorf("counted %d", n)
	}
	r.close()
}

func TestRelayBreaksAsAWhole(t *testing.T) {
	qemu1, qemuEnd1 := pair(t)
	_, peerEnd1 := pair(t)
	qemu2, qemuEnd2 := pair(t)
	peer2, peerEnd2 := pair(t)
	broken := make(chan error, 2)
	r := &relay{broken: func(err error) { broken <- err }}
	r.join(qemuEnd1, peerEnd1)
	r.join(qemuEnd2, peerEnd2)
	_ = peer2.Close() // with nothing unread: an end, no fault
	_ = peerEnd1.SetReadDeadline(time.Unix(1, 0))
	if err := <-broken; err == nil {
		t.Error("broken without a reason")
	}
	r.wg.Wait()
	for _, c := range []net.Conn{qemu1, qemu2} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("QEMU's end: %v", err)
		}
	}
	late, end := pair(t)
	r.join(end, end)
	if _, err := late.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("joined to a broken relay: %v", err)
	}
	if len(broken) != 0 {
		t.Error("told twice")
	}
}
