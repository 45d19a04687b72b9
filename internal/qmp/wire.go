package qmp

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// maxMessage bounds one message of QEMU in bytes. The largest that is asked for
// here is a few kilobytes.
const maxMessage = 4 << 20

// ErrTooLong is returned for a message beyond the bound of 4 MiB.
var ErrTooLong = errors.New("qmp: message of QEMU is longer than 4 MiB")

// Error is QEMU's refusal of a command.
type Error struct {
	// Command is what was asked.
	Command string `json:"-"`
	// Class is QEMU's error class, nearly always GenericError.
	Class string `json:"class"`
	// Desc is QEMU's own text.
	Desc string `json:"desc"`
}

// Error names the command and gives QEMU's reason.
func (e *Error) Error() string {
	return fmt.Sprintf("qmp: QEMU refused %s: %s (%s)", e.Command, e.Desc, e.Class)
}

// Event is something that QEMU told without being asked.
type Event struct {
	// Name is QEMU's name of it, such as STOP, RESUME or MIGRATION.
	Name string
	// Data is its content as JSON; it may be empty.
	Data json.RawMessage
	// At is the time by QEMU's host clock, to the microsecond.
	At time.Time
}

// message is any of the four shapes that a server sends.
type message struct {
	Greeting *struct {
		Version Version `json:"version"`
	} `json:"QMP"`
	Return    json.RawMessage `json:"return"`
	Error     *Error          `json:"error"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
	ID *uint64 `json:"id"`
}

// request is one command on its way to QEMU.
type request struct {
	Execute   string `json:"execute"`
	Arguments any    `json:"arguments,omitempty"`
	ID        uint64 `json:"id"`
}

// decoder takes messages, one a line, off a stream.
type decoder struct {
	r *bufio.Reader
}

func newDecoder(r io.Reader) *decoder {
	return &decoder{r: bufio.NewReaderSize(r, 16<<10)}
}

// next returns the next message, skipping empty lines. io.EOF means that QEMU
// closed the stream between two messages.
func (d *decoder) next() (message, error) {
	for {
		line, err := d.line()
		if err != nil {
			return message{}, err
		}
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		return decode(line)
	}
}

// line reads up to a newline, within maxMessage bytes.
func (d *decoder) line() ([]byte, error) {
	var line []byte
	for {
		part, err := d.r.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return nil, ErrTooLong
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// decode reads one message. Numbers beyond an event's time are left as they
// are, for the typed commands to read.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("qmp: QEMU sent %q, which is no message: %w", clip(line), err)
	}
	if m.Greeting == nil && m.Return == nil && m.Error == nil && m.Event == "" {
		return message{}, fmt.Errorf("qmp: QEMU sent %q, which is neither greeting, reply nor event", clip(line))
	}
	return m, nil
}

// event makes an Event of a message that is one.
func (m message) event() Event {
	t := m.Timestamp
	return Event{Name: m.Event, Data: m.Data, At: time.Unix(t.Seconds, t.Microseconds*1000)}
}

// clip shortens what is quoted in an error.
func clip(b []byte) string {
	const most = 120
	if len(b) > most {
		return strings.ToValidUTF8(string(b[:most]), "?") + "..."
	}
	return strings.ToValidUTF8(string(b), "?")
}
