package csvpb

import (
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"
)

// ALPN is the protocol's name on a TLS connection.
const ALPN = "quorate-csv"

// MaxFrame is the longest frame, in bytes. A Hello that claims more is refused.
const MaxFrame = 8 << 20

// Write writes one frame.
func Write(w io.Writer, m proto.Message) error {
	b := make([]byte, 4, 256)
	b, err := proto.MarshalOptions{}.MarshalAppend(b, m)
	if err != nil {
		return fmt.Errorf("encode a frame: %w", err)
	}
	if len(b)-4 > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is longer than the %d allowed", len(b)-4, MaxFrame)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err = w.Write(b)
	return err
}

// Read reads one frame into m.
func Read(r io.Reader, m proto.Message) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > MaxFrame {
		return fmt.Errorf("a frame of %d bytes is longer than the %d allowed", n, MaxFrame)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return fmt.Errorf("a frame was cut off: %w", err)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return fmt.Errorf("decode a frame: %w", err)
	}
	return nil
}
