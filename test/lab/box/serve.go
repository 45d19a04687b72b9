package box

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

func lookPath(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	return exec.LookPath(name)
}

// serve answers one connection.
func (p *proc1) serve(c *net.UnixConn) {
	defer c.Close()
	var q request
	files, err := receive(c, &q)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return
	}
	var a reply
	switch q.Op {
	case opExec:
		a, err = p.exec(c, q, files)
	case opStart:
		err = p.start(q)
	case opStop:
		err = p.stop(q)
	case opDaemons:
		a.Daemons = p.list()
	default:
		err = fmt.Errorf("process 1 knows no %q", q.Op)
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = send(c, a, nil)
}

// exec runs a program until it ends, or until the one who asked goes.
func (p *proc1) exec(c *net.UnixConn, q request, files []*os.File) (reply, error) {
	if len(files) != 3 {
		return reply{}, errors.New("stdin, stdout and stderr are needed")
	}
	pid, done, err := p.spawn(q.Argv, q.Env, files)
	if err != nil {
		return reply{}, err
	}
	for i := range files {
		files[i].Close() // the program has them; ours would keep pipes open
	}
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = c.Read(make([]byte, 1)) // nothing more is sent: it returns when they go
	}()
	select {
	case exit := <-done:
		return reply{Exit: exit}, nil
	case <-left:
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		<-done
		return reply{}, errors.New("given up")
	}
}

func (p *proc1) start(q request) error {
	p.mu.Lock()
	if d := p.daemons[q.Name]; d != nil {
		select {
		case <-d.gone:
		default:
			p.mu.Unlock()
			return fmt.Errorf("%s runs already, as process %d", q.Name, d.pid)
		}
	}
	p.mu.Unlock()
	log, err := os.OpenFile(At(p.spec.Dir).LogPath(q.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer null.Close()
	pid, done, err := p.spawn(q.Argv, q.Env, []*os.File{null, log, log})
	if err != nil {
		return err
	}
	d := &daemon{pid: pid, gone: make(chan struct{})}
	p.mu.Lock()
	p.daemons[q.Name] = d
	p.mu.Unlock()
	go func() {
		d.exit = <-done
		close(d.gone)
	}()
	return nil
}

func (p *proc1) stop(q request) error {
	p.mu.Lock()
	d := p.daemons[q.Name]
	p.mu.Unlock()
	if d == nil {
		return fmt.Errorf("%s was never started", q.Name)
	}
	select {
	case <-d.gone:
		return nil
	default:
	}
	// The process alone: what it has started may outlive it, as on a server.
	if err := syscall.Kill(d.pid, syscall.Signal(q.Signal)); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	<-d.gone
	return nil
}
