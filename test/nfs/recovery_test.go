package nfs

import (
	"encoding/binary"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// recovery keeps, as nfsdcld does, which clients may reclaim their locks when the server
// restarts: those that had some, and did not lose them. The kernel asks through a pipe:
// include/uapi/linux/nfsd/cld.h, of which this is version 1.
type recovery struct {
	mu sync.Mutex
	// known has for each client the server's start in which it was heard last.
	known map[string]int
	start int
}

const (
	cldPipe    = "/var/lib/nfs/rpc_pipefs/nfsd/cld"
	cldVersion = 1
)

// Commands of the kernel, and where a message has its fields, in bytes.
const (
	cldCreate = iota
	cldRemove
	cldCheck
	cldGraceDone
	cldGraceStart
	cldGetVersion

	cldCommandAt, cldStatusAt, cldNameAt = 1, 2, 8
)

// serve answers the kernel. The pipe is there while the server runs, and it must be open
// within a second of its start.
func (r *recovery) serve() {
	for ; ; time.Sleep(5 * time.Millisecond) {
		f, err := os.OpenFile(cldPipe, os.O_RDWR|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		for r.one(f) {
		}
		f.Close()
	}
}

// one answers one message, if there is one, and tells whether the pipe is still there.
func (r *recovery) one(f *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, 100); err != nil || fds[0].Revents&unix.POLLIN == 0 {
		_, err := os.Stat(cldPipe)
		return err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) == 0
	}
	m := make([]byte, 4096)
	n, err := unix.Read(int(f.Fd()), m)
	if err != nil || n < cldNameAt+2 {
		return err == unix.EAGAIN || err == unix.EINTR
	}
	for _, answer := range r.answers(m[:n]) {
		if _, err := unix.Write(int(f.Fd()), answer); err != nil {
			return false
		}
	}
	return true
}

func (r *recovery) answers(m []byte) (out [][]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := string(m[cldNameAt+2:][:min(int(binary.LittleEndian.Uint16(m[cldNameAt:])), len(m)-cldNameAt-2)])
	status := unix.Errno(0)
	switch m[cldCommandAt] {
	case cldGetVersion:
		m[cldNameAt] = cldVersion
	case cldCreate:
		r.known[name] = r.start
	case cldRemove:
		delete(r.known, name)
	case cldCheck:
		if _, ok := r.known[name]; !ok {
			status = unix.EACCES
		} else {
			r.known[name] = r.start
		}
	case cldGraceDone:
		for name, start := range r.known {
			if start < r.start {
				delete(r.known, name)
			}
		}
	case cldGraceStart:
		r.start++
		for name := range r.known {
			one := answered(m, unix.EINPROGRESS)
			clear(one[cldNameAt:])
			binary.LittleEndian.PutUint16(one[cldNameAt:], uint16(len(name)))
			copy(one[cldNameAt+2:], name)
			out = append(out, one)
		}
	default:
		status = unix.EOPNOTSUPP
	}
	return append(out, answered(m, status))
}

// answered is a message with the status of an answer.
func answered(m []byte, status unix.Errno) []byte {
	out := append([]byte(nil), m...)
	binary.LittleEndian.PutUint16(out[cldStatusAt:], uint16(-int16(status)))
	return out
}
