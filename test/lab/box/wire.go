package box

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// What process 1 is asked to do.
const (
	opExec    = "exec"    // run argv on the passed descriptors, answer its exit status
	opStart   = "start"   // run argv as the daemon of that name, answer at once
	opStop    = "stop"    // send the signal to the daemon, answer when it has gone
	opDaemons = "daemons" // list them
)

// request is one connection's question; it comes with three descriptors for
// opExec.
type request struct {
	Op     string   `json:"op"`
	Name   string   `json:"name,omitempty"`
	Argv   []string `json:"argv,omitempty"`
	Env    []string `json:"env,omitempty"`
	Signal int      `json:"signal,omitempty"`
}

// reply is process 1's answer.
type reply struct {
	Error   string   `json:"error,omitempty"`
	Exit    int      `json:"exit"`
	Daemons []Daemon `json:"daemons,omitempty"`
}

// Daemon is a process that process 1 keeps by name.
type Daemon struct {
	Name string `json:"name"`
	// PID is its id inside the box; 0 where it does not run.
	PID int `json:"pid"`
	// Exit is the status that it ended with, -1 while it runs; 128 and more
	// is a signal.
	Exit int `json:"exit"`
}

const maxMessage = 1 << 20 // bytes

func send(c *net.UnixConn, v any, fds []int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	msg := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
	msg = append(msg, b...)
	var oob []byte
	if len(fds) > 0 {
		oob = syscall.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(msg, oob, nil)
	if err != nil || n == len(msg) {
		return err
	}
	_, err = c.Write(msg[n:])
	return err
}

func receive(c *net.UnixConn, v any) ([]*os.File, error) {
	head, oob := make([]byte, 4), make([]byte, 256)
	n, oobn, _, _, err := c.ReadMsgUnix(head, oob)
	if err != nil {
		return nil, err
	}
	files, err := rights(oob[:oobn])
	if err != nil {
		return files, err
	}
	if n == 0 {
		return files, io.ErrUnexpectedEOF
	}
	if _, err := io.ReadFull(c, head[n:]); err != nil {
		return files, err
	}
	size := binary.BigEndian.Uint32(head)
	if size > maxMessage {
		return files, fmt.Errorf("a message of %d bytes", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return files, err
	}
	return files, json.Unmarshal(body, v)
}

func rights(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range msgs {
		fds, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			return files, errors.Join(err)
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}
