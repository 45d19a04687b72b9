package holder

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// SocketName is the socket's name below the run directory.
const SocketName = "holder.sock"

// maxMessage is the longest message, in bytes.
const maxMessage = 64 << 10

// kinds of message.
const (
	opPut   = "put"   // keep a mount; its descriptor comes along
	opDrop  = "drop"  // close a mount
	opList  = "list"  // name all mounts and the lease
	opGet   = "get"   // hand a mount out; its descriptor goes along
	opLease = "lease" // note when the lease ends
)

// message is a question, or its answer. The socket keeps their bounds.
type message struct {
	Op    string        `json:"op,omitempty"`
	Name  string        `json:"name,omitempty"`
	Init  []byte        `json:"init,omitempty"`
	Meta  []byte        `json:"meta,omitempty"`
	Until time.Duration `json:"until,omitempty"`
	Names []string      `json:"names,omitempty"`
	Error string        `json:"error,omitempty"`
}

// Mount is what is kept of one mount.
type Mount struct {
	Name string
	// Dev is the kernel's end.
	Dev *os.File
	// Init is the kernel's first message, Meta what the next noded needs to know.
	Init, Meta []byte
}

func socketPath(dir string) string { return filepath.Join(dir, SocketName) }

// send sends one message, with a descriptor where f is not nil.
func send(c *net.UnixConn, m message, f *os.File) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if len(b) > maxMessage {
		return fmt.Errorf("a message to the holder has %d bytes, at most %d are allowed", len(b), maxMessage)
	}
	var oob []byte
	if f != nil {
		oob = syscall.UnixRights(int(f.Fd()))
	}
	_, _, err = c.WriteMsgUnix(b, oob, nil)
	return err
}

// receive takes one message, with its descriptor if it has one.
func receive(c *net.UnixConn) (message, *os.File, error) {
	b, oob := make([]byte, maxMessage), make([]byte, syscall.CmsgSpace(4))
	n, on, flags, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return message{}, nil, err
	}
	if n == 0 {
		return message{}, nil, net.ErrClosed
	}
	f, err := descriptor(oob[:on])
	if err != nil || flags&syscall.MSG_TRUNC != 0 {
		return message{}, nil, errors.Join(errors.New("a message that was cut"), err)
	}
	var m message
	if err := json.Unmarshal(b[:n], &m); err != nil {
		if f != nil {
			_ = f.Close()
		}
		return message{}, nil, err
	}
	return m, f, nil
}

// descriptor takes the first descriptor out of a control message.
func descriptor(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	if len(msgs) == 0 {
		return nil, nil
	}
	fds, err := syscall.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	syscall.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "/dev/fuse"), nil
}
