package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Stdio is what a program inside is connected to. Nil is /dev/null. A *os.File is
// handed over as it is.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// ask puts one question to process 1. The connection ends with ctx.
func (b Box) ask(ctx context.Context, q request, fds []int, sent func()) (reply, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", b.socket())
	if err != nil {
		if pid, _ := b.PID(); pid == 0 {
			return reply{}, fmt.Errorf("box %s is off", b.dir)
		}
		return reply{}, err
	}
	c := conn.(*net.UnixConn)
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if err := send(c, q, fds); err != nil {
		return reply{}, b.cause(ctx, err)
	}
	if sent != nil {
		sent()
	}
	var a reply
	if _, err := receive(c, &a); err != nil {
		return reply{}, b.cause(ctx, err)
	}
	if a.Error != "" {
		return a, errors.New(a.Error)
	}
	return a, nil
}

func (b Box) cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("box %s: process 1 went away: %w", b.dir, err)
}

// Exec runs a program inside and returns its exit status; 128 and more is a
// signal. When ctx ends, the program is killed.
func (b Box) Exec(ctx context.Context, argv, env []string, io Stdio) (int, error) {
	p := &plumbing{}
	defer p.close()
	in, err := p.input(io.In)
	if err != nil {
		return 0, err
	}
	out, err := p.output(io.Out)
	if err != nil {
		return 0, err
	}
	errs := out
	if io.Err != io.Out {
		if errs, err = p.output(io.Err); err != nil {
			return 0, err
		}
	}
	fds := []int{int(in.Fd()), int(out.Fd()), int(errs.Fd())}
	a, err := b.ask(ctx, request{Op: opExec, Argv: argv, Env: env}, fds, p.handedOver)
	if err != nil {
		return 0, err
	}
	p.wait(ctx)
	return a.Exit, nil
}

// StartDaemon starts argv under that name; its output is appended to LogPath.
func (b Box) StartDaemon(ctx context.Context, name string, argv, env []string) error {
	_, err := b.ask(ctx, request{Op: opStart, Name: name, Argv: argv, Env: env}, nil, nil)
	return err
}

// StopDaemon sends the signal to a daemon and waits until it has gone. What the
// daemon has started stays.
func (b Box) StopDaemon(ctx context.Context, name string, sig syscall.Signal) error {
	_, err := b.ask(ctx, request{Op: opStop, Name: name, Signal: int(sig)}, nil, nil)
	return err
}

// Daemons lists what StartDaemon has started since the box did.
func (b Box) Daemons(ctx context.Context) ([]Daemon, error) {
	a, err := b.ask(ctx, request{Op: opDaemons}, nil, nil)
	return a.Daemons, err
}

// plumbing connects readers and writers to descriptors.
type plumbing struct {
	theirs []*os.File // closed here once they were handed over
	ours   []*os.File
	copies sync.WaitGroup
}

func (p *plumbing) input(r io.Reader) (*os.File, error) {
	switch f := r.(type) {
	case nil:
		return p.null(os.O_RDONLY)
	case *os.File:
		return f, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs = append(p.theirs, read)
	go func() { // ends with r; what r is waiting for may never come
		defer write.Close()
		_, _ = io.Copy(write, r)
	}()
	return read, nil
}

func (p *plumbing) output(w io.Writer) (*os.File, error) {
	switch f := w.(type) {
	case nil:
		return p.null(os.O_WRONLY)
	case *os.File:
		return f, nil
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.theirs, p.ours = append(p.theirs, write), append(p.ours, read)
	p.copies.Go(func() { _, _ = io.Copy(w, read) })
	return write, nil
}

func (p *plumbing) null(mode int) (*os.File, error) {
	f, err := os.OpenFile(os.DevNull, mode, 0)
	if err == nil {
		p.theirs = append(p.theirs, f)
	}
	return f, err
}

func (p *plumbing) handedOver() {
	for _, f := range p.theirs {
		f.Close()
	}
	p.theirs = nil
}

// wait lets the output arrive; something left running inside may keep it open,
// which is not waited for long.
func (p *plumbing) wait(ctx context.Context) {
	done := make(chan struct{})
	go func() { p.copies.Wait(); close(done) }()
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-done:
	case <-ctx.Done():
	case <-t.C:
	}
}

func (p *plumbing) close() {
	p.handedOver()
	for _, f := range p.ours {
		f.Close()
	}
	p.copies.Wait()
}
