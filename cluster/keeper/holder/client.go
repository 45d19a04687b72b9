package holder

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Client is noded's connection to the holder. While there is one the holder leaves the
// end of the lease to noded.
type Client struct {
	mu     sync.Mutex // held for each question and its answer
	conn   *net.UnixConn
	holder *os.Process
}

// answerLimit bounds one question: the holder waits for nothing. One that has not answered
// by then hangs, and is killed: were it to wake when its noded has turned to another, it
// could find the lease over that it heard of last, no noded there, and kill the machines.
const answerLimit = 5 * time.Second

// Dial connects to the holder of a run directory.
func Dial(dir string) (*Client, error) {
	c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: socketPath(dir), Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("the holder: %w", err)
	}
	p, err := process(c)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("the holder: %w", err), c.Close())
	}
	return &Client{conn: c, holder: p}, nil
}

// process is who listens at the other end.
func process(c *net.UnixConn) (*os.Process, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var err2 error
	if err = raw.Control(func(fd uintptr) { cred, err2 = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err == nil {
		err = err2
	}
	if err != nil {
		return nil, err
	}
	return os.FindProcess(int(cred.Pid)) // by a descriptor: never another that gets the number later
}

// PID is the holder's process ID.
func (c *Client) PID() int { return c.holder.Pid }

// dialPause is waited between attempts to reach a holder that begins.
const dialPause = 5 * time.Millisecond

// Await connects to a holder that is being started.
func Await(ctx context.Context, dir string) (*Client, error) {
	for {
		c, err := Dial(dir)
		if err == nil {
			if _, _, err = c.List(); err == nil {
				return c, nil
			}
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-time.After(dialPause):
		}
	}
}

func (c *Client) ask(m message, f *os.File) (message, *os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.conn.SetDeadline(time.Now().Add(answerLimit))
	err := send(c.conn, m, f)
	var a message
	var out *os.File
	if err == nil {
		a, out, err = receive(c.conn)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && c.holder.Pid != os.Getpid() { // tests are both
		err = errors.Join(err, c.holder.Kill())
	}
	if err == nil && a.Error != "" {
		err = errors.New(a.Error)
	}
	if err != nil {
		return message{}, nil, fmt.Errorf("the holder: %s: %w", m.Op, err)
	}
	return a, out, nil
}

// Put has a mount kept, in place of one of the same name. Where Dev is nil only what is
// known of that one changes.
func (c *Client) Put(m Mount) error {
	_, _, err := c.ask(message{Op: opPut, Name: m.Name, Init: m.Init, Meta: m.Meta}, m.Dev)
	return err
}

// Drop lets a mount go; one that is not there is no error.
func (c *Client) Drop(name string) error {
	_, _, err := c.ask(message{Op: opDrop, Name: name}, nil)
	return err
}

// List names what is kept, and when the lease ends, on the node's clock.
func (c *Client) List() (names []string, until time.Duration, err error) {
	a, _, err := c.ask(message{Op: opList}, nil)
	return a.Names, a.Until, err
}

// Get hands out a mount, which the holder goes on to keep.
func (c *Client) Get(name string) (Mount, error) {
	a, f, err := c.ask(message{Op: opGet, Name: name}, nil)
	if err == nil && f == nil {
		err = errors.New("the holder: a mount came without its descriptor")
	}
	return Mount{Name: name, Dev: f, Init: a.Init, Meta: a.Meta}, err
}

// Lease notes when the lease ends.
func (c *Client) Lease(until time.Duration) error {
	_, _, err := c.ask(message{Op: opLease, Until: until}, nil)
	return err
}

// Close leaves the holder alone with what it keeps.
func (c *Client) Close() error {
	_ = c.holder.Release()
	return c.conn.Close()
}
