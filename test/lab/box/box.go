// Package box runs a machine in a box: processes in network, mount, UTS, IPC and
// PID namespaces of their own, under a process 1 that is this very program
// started anew. The lab's nodes, its SAN and its switch are boxes.
//
// It is called by test/lab. It knows no network: whoever starts a box puts
// interfaces into its namespace.
//
// How it works: process 1 builds a root of its own from bind mounts of the
// host's, listens on a unix socket in the box's folder, and starts what it is
// told to. A box is found again by its command line in /proc, so that nothing
// has to be remembered. When process 1 is killed, the kernel kills all the rest
// at once: a power cut.
//
// Traps: every program that uses this package must call MaybeInit first thing in
// main (or TestMain). The paths of sockets are short: a folder of more than 80
// bytes is refused.
package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// marker is the name under which process 1 runs.
const marker = "quorate-lab-init"

const (
	maxDir    = 80               // bytes in the path of a box's folder
	bootLimit = 10 * time.Second // for process 1 to listen
	killLimit = 20 * time.Second // for everything to be gone after SIGKILL
)

// Spec is what a box is made of.
type Spec struct {
	// Dir is the box's folder; its path is the box's name to others.
	Dir string `json:"dir"`
	// Hostname is the name inside.
	Hostname string `json:"hostname"`
	// Binds puts files and folders of the host at paths inside, over
	// whatever the host has there.
	Binds map[string]string `json:"binds"`
	// Env is added to the environment of everything inside.
	Env []string `json:"env"`
}

// Box is a box that runs, or ran.
type Box struct{ dir string }

// At is the box whose folder is dir.
func At(dir string) Box { return Box{dir: dir} }

// Dir is the box's folder.
func (b Box) Dir() string { return b.dir }

func (b Box) socket() string { return filepath.Join(b.dir, "init.sock") }

// Start makes a box and returns when process 1 listens. Prepare is called before
// that, with the process id of process 1 on the host; it may be nil.
func Start(ctx context.Context, s Spec, prepare func(pid int) error) (Box, error) {
	b := At(s.Dir)
	if len(s.Dir) > maxDir || !filepath.IsAbs(s.Dir) {
		return b, fmt.Errorf("box in %s: the path must be absolute and have at most %d bytes, because sockets lie in it", s.Dir, maxDir)
	}
	if pid, _ := b.PID(); pid != 0 {
		return b, fmt.Errorf("box in %s runs already, as process %d", s.Dir, pid)
	}
	if err := os.MkdirAll(filepath.Join(s.Dir, "root"), 0o755); err != nil {
		return b, err
	}
	_ = os.Remove(b.socket())
	spec, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return b, err
	}
	if err := os.WriteFile(filepath.Join(s.Dir, "box.json"), spec, 0o600); err != nil {
		return b, err
	}
	pid, err := b.spawn()
	if err != nil {
		return b, err
	}
	if prepare != nil {
		err = prepare(pid)
	}
	if err == nil {
		err = b.await(ctx)
	}
	if err != nil {
		return b, errors.Join(fmt.Errorf("start box %s: %w", s.Dir, err), b.Kill())
	}
	return b, nil
}

// spawn starts process 1 in new namespaces.
func (b Box) spawn() (pid int, err error) {
	exe, err := os.Executable()
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "init.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd := &exec.Cmd{
		Path: exe, Args: []string{marker, b.dir}, Dir: "/",
		Env:    []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"},
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWPID,
		},
	}
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("make namespaces (this needs root): %w", err)
	}
	go func() { _ = cmd.Wait() }() // ends when the box does; nothing else reaps it
	return cmd.Process.Pid, nil
}

// await waits until process 1 answers.
func (b Box) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	for {
		_, err := b.Daemons(ctx)
		if err == nil {
			return nil
		}
		if pid, _ := b.PID(); pid == 0 {
			log, _ := os.ReadFile(filepath.Join(b.dir, "init.log"))
			return fmt.Errorf("process 1 ended at once: %s", log)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process 1 does not answer: %w", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}
