package agent

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"quorate/migration"
	"quorate/migration/migrationpb"

	"google.golang.org/protobuf/proto"
)

// Bounds of the control connection.
const (
	maxFrame = 256 << 10 // bytes
	// pingEvery is how often each end says that it is there, and silence how
	// long it may say nothing. The target's own work is done elsewhere, so
	// silence means that its node hangs or the network is cut.
	pingEvery = time.Second
	silence   = 5 * time.Second
	// writeTimeout is how long a frame may wait for room on its connection.
	writeTimeout = 3 * time.Second
)

// writeFrame puts one message on a connection.
func writeFrame(c net.Conn, m proto.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if len(body) > maxFrame {
		return fmt.Errorf("agent: a message of %d bytes is more than the %d allowed", len(body), maxFrame)
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	if _, err := c.Write(append(frame, body...)); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	return nil
}

// readFrame takes one message off a connection, within a time, and not one byte
// more than the message.
func readFrame(c net.Conn, within time.Duration, m proto.Message) error {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxFrame {
		return fmt.Errorf("agent: the other end announces a message of %d bytes; %d are allowed", n, maxFrame)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(c, body); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	if err := proto.Unmarshal(body, m); err != nil {
		return fmt.Errorf("agent: the other end sent what is no message: %w", err)
	}
	return nil
}

// control is one end of a control connection. Its writes may come from several
// goroutines.
type control struct {
	conn net.Conn
	mu   sync.Mutex // held while a frame is written
}

func (c *control) send(m proto.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return writeFrame(c.conn, m)
}

// ping says that this end is there, until stop is closed or it cannot.
func (c *control) ping(stop <-chan struct{}, m proto.Message) {
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			if c.send(m) != nil {
				return // the reader finds out why
			}
		}
	}
}

// The messages without content.
var (
	pingTarget = &migrationpb.ToTarget{Body: &migrationpb.ToTarget_Ping{Ping: &migrationpb.Ping{}}}
	tellRun    = &migrationpb.ToTarget{Body: &migrationpb.ToTarget_Run{Run: &migrationpb.Run{}}}
	tellKill   = &migrationpb.ToTarget{Body: &migrationpb.ToTarget_Kill{Kill: &migrationpb.Kill{}}}

	pingSource = &migrationpb.ToSource{Body: &migrationpb.ToSource_Ping{Ping: &migrationpb.Ping{}}}
	sayLoaded  = &migrationpb.ToSource{Body: &migrationpb.ToSource_Loaded{Loaded: &migrationpb.Loaded{}}}
	sayRunning = &migrationpb.ToSource{Body: &migrationpb.ToSource_Running{Running: &migrationpb.Running{}}}
	sayGone    = &migrationpb.ToSource{Body: &migrationpb.ToSource_Gone{Gone: &migrationpb.Gone{}}}
	sayOpened  = &migrationpb.ToSource{Body: &migrationpb.ToSource_Opened{Opened: &migrationpb.Opened{}}}
)

// sayReady is the target's word that it waits, and for what.
func sayReady(c migration.Carriage) *migrationpb.ToSource {
	return &migrationpb.ToSource{Body: &migrationpb.ToSource_Ready{Ready: &migrationpb.Ready{Carriage: carriageOut(c)}}}
}

func carriageOut(c migration.Carriage) *migrationpb.Carriage {
	return &migrationpb.Carriage{Streams: uint32(c.Streams), Compress: c.Compress}
}

// carriageIn takes what the other end says of the carriage.
func carriageIn(c *migrationpb.Carriage) (migration.Carriage, error) {
	out := migration.Carriage{Streams: int(c.GetStreams()), Compress: c.GetCompress()}
	return out, out.Validate()
}

// sayFailed is the target's word that it failed.
func sayFailed(reason string) *migrationpb.ToSource {
	return &migrationpb.ToSource{Body: &migrationpb.ToSource_Failed{Failed: &migrationpb.Failed{Reason: reason}}}
}
