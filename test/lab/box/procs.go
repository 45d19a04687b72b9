package box

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pids lists the host's processes.
func pids() ([]int, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var out []int
	for _, n := range names {
		if pid, err := strconv.Atoi(n); err == nil {
			out = append(out, pid)
		}
	}
	return out, nil
}

// Find lists the folders of the boxes that run below dir.
func Find(dir string) (map[string]int, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	found := map[string]int{}
	for _, pid := range all {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue
		}
		argv := bytes.Split(b, []byte{0})
		if len(argv) < 2 || string(argv[0]) != marker {
			continue
		}
		if at := string(argv[1]); at == dir || strings.HasPrefix(at, dir+"/") {
			found[at] = pid
		}
	}
	return found, nil
}

// PID is process 1's id on the host, or 0 where the box does not run.
func (b Box) PID() (int, error) {
	found, err := Find(b.dir)
	return found[b.dir], err
}

// Processes lists everything in the box by its id on the host.
func (b Box) Processes() ([]int, error) {
	pid, err := b.PID()
	if pid == 0 || err != nil {
		return nil, err
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, nil //nolint:nilerr // it has just ended
	}
	return members(ns)
}

// members lists the living processes of a PID namespace.
func members(ns string) ([]int, error) {
	all, err := pids()
	if err != nil {
		return nil, err
	}
	var out []int
	for _, p := range all {
		if have, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", p)); err == nil && have == ns && state(p) != 'Z' {
			out = append(out, p)
		}
	}
	return out, nil
}

// state is a process's state letter, or 0 where there is none.
func state(pid int) byte {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name is in brackets and may contain anything.
	if i := bytes.LastIndexByte(b, ')'); i >= 0 && i+2 < len(b) {
		return b[i+2]
	}
	return 0
}

// Hung tells whether the box is stopped.
func (b Box) Hung() bool {
	pid, _ := b.PID()
	return pid != 0 && state(pid) == 'T'
}

// Hang stops everything in the box (SIGSTOP), process 1 first, and returns when
// all of it stands still.
func (b Box) Hang(ctx context.Context) error {
	return b.sweep(ctx, syscall.SIGSTOP, func(s byte) bool { return s == 'T' || s == 'Z' || s == 0 })
}

// Wake undoes Hang.
func (b Box) Wake(ctx context.Context) error {
	return b.sweep(ctx, syscall.SIGCONT, func(s byte) bool { return s != 'T' })
}

func (b Box) sweep(ctx context.Context, sig syscall.Signal, done func(state byte) bool) error {
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	for quiet := 0; quiet < 2; {
		procs, err := b.Processes()
		if err != nil {
			return err
		}
		if len(procs) == 0 {
			return fmt.Errorf("box %s is off", b.dir)
		}
		quiet++
		for _, p := range procs {
			if !done(state(p)) {
				quiet = 0
				_ = syscall.Kill(p, sig)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("box %s: not every process took %v: %w", b.dir, sig, ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
	return nil
}

// Kill is a power cut: everything in the box is gone when it returns. A box
// that does not run is no error.
func (b Box) Kill() error {
	pid, err := b.PID()
	if pid == 0 || err != nil {
		return err
	}
	ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil //nolint:nilerr // it has just ended
	}
	// Process 1 loses its command line before the rest of its namespace has
	// ended, so from here on the namespace is what counts.
	_ = syscall.Kill(pid, syscall.SIGKILL)
	for limit := time.Now().Add(killLimit); ; {
		left, err := members(ns)
		if err != nil {
			return err
		}
		if len(left) == 0 {
			_ = os.Remove(b.socket())
			return nil
		}
		if time.Now().After(limit) {
			return fmt.Errorf("box %s: processes %v are still there %v after SIGKILL", b.dir, left, killLimit)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// LogPath is where a daemon's output goes.
func (b Box) LogPath(daemon string) string { return filepath.Join(b.dir, daemon+".log") }
