package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorate/cluster/keeper/holder"
)

// asNoded says that this process is noded.
const asNoded = "QUORATE_TEST_AS_NODED"

func TestMain(m *testing.M) {
	if os.Getenv(asNoded) != "" {
		os.Exit(run())
	}
	os.Exit(m.Run())
}

// process is a noded of its own folders, in no cluster.
type process struct {
	t         *testing.T
	dir, path string // path is where its program is
	cmd       *exec.Cmd

	mu   sync.Mutex
	said bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// install puts a copy of the program, or something else, where noded is started from.
func (p *process) install(program []byte) {
	p.t.Helper()
	err := os.WriteFile(p.path+".new", program, 0o755)
	if err == nil {
		err = os.Rename(p.path+".new", p.path)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

func program(t *testing.T) []byte {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func start(t *testing.T, more ...string) *process {
	t.Helper()
	p := &process{t: t, dir: t.TempDir()}
	p.path = filepath.Join(p.dir, "noded")
	p.install(program(t))
	p.cmd = exec.Command(p.path, append([]string{
		"--config", config(t, ""), "--state", p.dir + "/state", "--run", p.dir + "/run", "--storage", p.dir + "/storage", "--listen", "127.0.0.1:0",
	}, more...)...)
	p.cmd.Env = append(os.Environ(), asNoded+"=1")
	out, in, err := os.Pipe()
	if err == nil {
		p.cmd.Stderr = in
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	read := make(chan struct{})
	go func() { defer close(read); _, _ = io.Copy(p, out) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if h, err := holder.Dial(p.dir + "/run"); err == nil {
			_ = h.Lease(0) // it has nothing to hold, and ends
			_ = h.Close()
		}
		<-read // neither process has its end any more
	})
	return p
}

// says waits until it has said something so many times.
func (p *process) says(what string, times int) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); strings.Count(p.text(), what) < times; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("noded did not say %q %d times:\n%s", what, times, p.text())
		}
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) ended(code int) {
	p.t.Helper()
	err := p.cmd.Wait()
	var e *exec.ExitError
	if err != nil && !errors.As(err, &e) || p.cmd.ProcessState.ExitCode() != code {
		p.t.Fatalf("noded ended with %v, want exit status %d:\n%s", p.cmd.ProcessState, code, p.text())
	}
}

// TestReplaced: told to, noded goes on as the program that is at its path by then, under
// the same process ID, and ends in good order. What is kept meanwhile: package keeper.
func TestReplaced(t *testing.T) {
	p := start(t)
	p.says("noded runs", 1)
	p.install(program(t))
	p.signal(syscall.SIGHUP)
	p.says("noded runs", 2)
	now, err := os.Stat("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/exe")
	if err != nil {
		t.Fatal(err)
	}
	if there, err := os.Stat(p.path); err != nil || !os.SameFile(now, there) {
		t.Errorf("it does not run the new program: %v", err)
	}
	p.signal(syscall.SIGTERM)
	p.ended(0)
}

// TestReplacedByNothing: where the new program cannot be run noded says so, and ends for
// the service manager to start it.
func TestReplacedByNothing(t *testing.T) {
	p := start(t)
	p.says("noded runs", 1)
	p.install([]byte("no program"))
	p.signal(syscall.SIGHUP)
	p.ended(1)
	p.says("cannot be run", 1)
}

// TestBadOptionsEndIt: the exit status tells a mistake in the configuration from a
// failure.
func TestBadOptionsEndIt(t *testing.T) {
	p := start(t, "--listen", "127.0.0.1:70000")
	p.ended(2)
	p.says("70000", 1)
}

// TestProtected: each protection is there, or noded says why not.
func TestProtected(t *testing.T) {
	p := start(t)
	p.says("noded runs", 1)
	proc := "/proc/" + strconv.Itoa(p.cmd.Process.Pid)
	b, err := os.ReadFile(proc + "/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(b)) != neverKilled {
		p.says("not exempt from the kernel's out-of-memory killer", 1)
	}
	tasks, err := filepath.Glob(proc + "/task/*/stat")
	if err != nil || len(tasks) == 0 {
		t.Fatal("no threads", err)
	}
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue // a thread that has ended
		}
		fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		if nice := fields[16]; nice != strconv.Itoa(highest) {
			p.says("priority is not raised", 1)
		}
	}
	status, err := os.ReadFile(proc + "/status")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(status), "VmLck:\t       0 kB") {
		p.says("memory is not locked", 1)
	}
}
