package box

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sort"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// MaybeInit becomes process 1 of a box where the program was started as that,
// and does not return then.
func MaybeInit() {
	if len(os.Args) != 2 || os.Args[0] != marker {
		return
	}
	err := runInit(os.Args[1])
	fmt.Fprintln(os.Stderr, "process 1:", err)
	os.Exit(1)
}

// proc1 is process 1.
type proc1 struct {
	spec Spec

	mu sync.Mutex
	// All below is guarded by mu.
	waits   map[int]chan int // exit statuses by process id
	daemons map[string]*daemon
}

type daemon struct {
	pid, exit int
	gone      chan struct{}
}

func runInit(dir string) error {
	if os.Getpid() != 1 {
		return fmt.Errorf("it has the id %d", os.Getpid())
	}
	b, err := os.ReadFile(filepath.Join(dir, "box.json"))
	if err != nil {
		return err
	}
	p := &proc1{waits: map[int]chan int{}, daemons: map[string]*daemon{}}
	if err := json.Unmarshal(b, &p.spec); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(p.spec.Hostname)); err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: At(dir).socket() + ".new"})
	if err != nil {
		return err
	}
	root := &rootfs{root: filepath.Join(dir, "root"), binds: p.spec.Binds}
	if err := root.enter(); err != nil {
		return err
	}
	for _, kv := range p.spec.Env {
		if k, v, ok := cut(kv); ok {
			if err := os.Setenv(k, v); err != nil {
				return fmt.Errorf("set %s: %w", k, err)
			}
		}
	}
	go p.reap()
	// Only now can it be found.
	if err := os.Rename(At(dir).socket()+".new", At(dir).socket()); err != nil {
		return err
	}
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return err
		}
		go p.serve(c)
	}
}

func cut(kv string) (k, v string, ok bool) {
	for i := range kv {
		if kv[i] == '=' {
			return kv[:i], kv[i+1:], true
		}
	}
	return "", "", false
}

// reap collects every child, those of others that came to process 1 too.
func (p *proc1) reap() {
	ch := make(chan os.Signal, 64)
	signal.Notify(ch, syscall.SIGCHLD)
	for range ch {
		for {
			var st syscall.WaitStatus
			pid, err := syscall.Wait4(-1, &st, syscall.WNOHANG, nil)
			if err == syscall.EINTR {
				continue
			}
			if err != nil || pid <= 0 {
				break
			}
			if !st.Exited() && !st.Signaled() {
				continue
			}
			exit := st.ExitStatus()
			if st.Signaled() {
				exit = 128 + int(st.Signal())
			}
			p.mu.Lock()
			if w := p.waits[pid]; w != nil {
				w <- exit
				delete(p.waits, pid)
			}
			p.mu.Unlock()
		}
	}
}

// spawn starts a program; its exit status comes on the channel.
func (p *proc1) spawn(argv, env []string, files []*os.File) (int, chan int, error) {
	if len(argv) == 0 {
		return 0, nil, fmt.Errorf("no program is named")
	}
	path, err := lookPath(argv[0])
	if err != nil {
		return 0, nil, err
	}
	p.mu.Lock() // until the channel is there, so that reap does not miss it
	defer p.mu.Unlock()
	proc, err := os.StartProcess(path, argv, &os.ProcAttr{
		Dir: "/", Env: append(os.Environ(), env...), Files: files, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, nil, err
	}
	pid := proc.Pid
	_ = proc.Release()
	w := make(chan int, 1)
	p.waits[pid] = w
	return pid, w, nil
}

func (p *proc1) list() []Daemon {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []Daemon{}
	for name, d := range p.daemons {
		e := Daemon{Name: name, PID: d.pid, Exit: -1}
		select {
		case <-d.gone:
			e.PID, e.Exit = 0, d.exit
		default:
		}
		out = append(out, e)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
