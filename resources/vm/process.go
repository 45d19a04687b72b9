package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// goneCheck is how often a wait for a process looks at its context.
const goneCheck = 50 * time.Millisecond

// process is a QEMU of this node, held by a descriptor (pidfd_open(2)), so that
// a number that is used again cannot be mistaken for it.
type process struct {
	pid int
	fd  *os.File
}

// find returns the process of the machine with these paths, or nil if there is
// none. It is known by the pid file and by having been started with it. The error is
// ErrBusy where it ends and has not yet: what it has sent to its disks may still land.
func (p paths) find() (*process, error) {
	text, err := os.ReadFile(p.pidFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vm: pid file: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return nil, nil // QEMU died before it wrote it
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("vm: process %d of %s: %w", pid, p, err)
	}
	proc := &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}
	// With the descriptor held, what /proc says is of this process or of a
	// later one, which was not started with this pid file either.
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("vm: process %d of %s: %w", pid, p, errors.Join(err, proc.close()))
	}
	if len(line) == 0 && proc.ends() {
		return nil, errors.Join(fmt.Errorf("vm: process %d of %s has not ended yet: %w", pid, p, ErrBusy), proc.close())
	}
	if !bytes.Contains(line, []byte("\x00-pidfile\x00"+p.pidFile()+"\x00")) {
		return nil, proc.close()
	}
	return proc, nil
}

// kernelThread is PF_KTHREAD, of a process's flags in /proc/PID/stat (proc_pid_stat(5)).
const kernelThread = 0x00200000

// ends tells whether a process without a command line is one that has begun to end: it
// has no memory any more, and the kernel waits for threads of it that wait for a disk.
func (p *process) ends() bool {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid), "stat"))
	if err != nil {
		return false
	}
	var state string
	var flags uint64
	_, rest, _ := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	if _, err := fmt.Sscanf(rest, "%s %d %d %d %d %d %d", &state, new(int), new(int), new(int), new(int), new(int), &flags); err != nil || flags&kernelThread != 0 {
		return false
	}
	gone, err := p.gone(0)
	return err == nil && !gone
}

func (p *process) close() error { return p.fd.Close() }

// gone says whether the process has ended.
func (p *process) gone(wait time.Duration) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, int(wait.Milliseconds()))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return false, fmt.Errorf("vm: process %d: %w", p.pid, err)
	}
	if n > 0 {
		// If it was started by this very process, it is a zombie until asked
		// for. If not, this fails and changes nothing.
		_ = unix.Waitid(unix.P_PIDFD, int(p.fd.Fd()), nil, unix.WEXITED|unix.WNOHANG, nil)
	}
	return n > 0, nil
}

// wait returns nil once the process has ended.
func (p *process) wait(ctx context.Context) error {
	for {
		gone, err := p.gone(goneCheck)
		if err != nil || gone {
			return err
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("vm: process %d has not ended: %w", p.pid, context.Cause(ctx))
		}
	}
}

// kill ends the process with SIGKILL and waits until it is gone.
func (p *process) kill(ctx context.Context) error {
	err := unix.PidfdSendSignal(int(p.fd.Fd()), unix.SIGKILL, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("vm: killing process %d: %w", p.pid, err)
	}
	return p.wait(ctx)
}

// KillAll ends all machines below a run directory at once, with SIGKILL, waits
// until they are gone and returns their names. It speaks with no QEMU and takes
// no lock, so nothing that hangs can delay it; a machine that is being started
// meanwhile is not seen, so the caller must first have seen to it that none is.
func KillAll(ctx context.Context, runDir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(runDir, "*", "qemu.pid"))
	if err != nil {
		return nil, fmt.Errorf("vm: looking for machines in %s: %w", runDir, err)
	}
	var names []string
	var procs []*process
	var errs []error
	for _, f := range files {
		dir := filepath.Dir(f)
		proc, err := paths(dir).find()
		if err != nil {
			errs = append(errs, err)
		}
		if proc == nil {
			continue
		}
		names, procs = append(names, filepath.Base(dir)), append(procs, proc)
		if err := unix.PidfdSendSignal(int(proc.fd.Fd()), unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("vm: killing %s: %w", filepath.Base(dir), err))
		}
	}
	for _, proc := range procs {
		errs = append(errs, proc.wait(ctx), proc.close())
	}
	return names, errors.Join(errs...)
}
