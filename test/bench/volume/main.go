// Command volume measures how fast a cluster shared volume is beside what else could
// be used: the bare LUN through our own initiator, QEMU's own iscsi driver, a GlusterFS
// volume through its FUSE client, and a FUSE file system of ours with nothing behind
// it, which is what FUSE itself allows.
//
// It is called by `make bench`. It never measures against an earlier run: all ways take
// turns in each round, and right before each the bare LUN is measured again. What is
// compared are medians of the ratios of such pairs: so that a machine that is busy with
// something else for a while slows both down.
//
// Everything runs in namespaces of its own, of which the kernel ends all processes and
// mounts with this program. Each node is a process as noded is one: session, gate,
// client and mount, the first with the coordinator. The target is tgt over the loopback
// network, on a file that the kernel caches, so that what is measured is what lies before
// a disk.
//
// Traps: the bare LUN is loaded by goroutines of the process that has the session, and
// QEMU's driver by qemu-img bench; both spare the processor that fio takes in the other
// rows. qemu-img bench knows no random offsets: it strides instead, which is the same to
// a cache.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"
)

// roles are what this program is, given as its first argument where it started itself.
const (
	roleInside = "inside"
	roleNode   = "node"
)

// limit ends a bench that hangs.
const limit = 8 * time.Minute

func main() {
	if len(os.Args) > 2 && os.Args[1] == roleNode {
		exit(node(os.Args[2:]))
	}
	inside := len(os.Args) > 1 && os.Args[1] == roleInside
	if inside {
		os.Args = append(os.Args[:1], os.Args[2:]...)
	}
	var o options
	flag.IntVar(&o.rounds, "rounds", 3, "how often each figure is taken")
	flag.DurationVar(&o.each, "each", 500*time.Millisecond, "for how long")
	flag.StringVar(&o.only, "only", "", "the loads to measure, as the table names them, between commas")
	flag.StringVar(&o.profiles, "profiles", "", "a folder for profiles of the nodes' processor time")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer func() { cancel(); stop() }()
	if inside {
		exit(run(ctx, o))
	}
	exit(enter(ctx))
}

type options struct {
	rounds   int
	each     time.Duration
	only     string
	profiles string
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// enter runs the bench in namespaces of its own. Its folder is removed when nothing in
// them lives any more.
func enter(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("the bench of volumes mounts and makes namespaces: it has to be run by root")
	}
	dir, err := os.MkdirTemp("", "qv-")
	if err != nil {
		return err
	}
	cmd := exec.Command("/proc/self/exe", append([]string{roleInside}, os.Args[1:]...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), dirEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL, Setpgid: true,
	}
	err = cmd.Start()
	if err == nil {
		end := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		err = cmd.Wait()
		end()
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("the bench of volumes was ended: %w", ctx.Err())
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// dirEnv names the folder for all that the bench makes.
const dirEnv = "QUORATE_BENCH_DIR"

// settle gives the namespaces what the bench needs: a loopback network with an address
// that is not 127.0.0.1, which GlusterFS refuses, and folders of their own where GlusterFS
// keeps what it knows.
func settle(ctx context.Context) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run", "/var/lib/glusterd", "/var/log/glusterfs"} {
		if _, err := os.Stat(dir); err != nil {
			continue // GlusterFS is not installed
		}
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount on %s: %w", dir, err)
		}
	}
	return errors.Join(command(ctx, "ip", "link", "set", "lo", "up"), command(ctx, "ip", "addr", "add", address+"/32", "dev", "lo"))
}

// address is that of everybody in the namespace.
const address = "10.77.0.1"

// command runs a program that must succeed.
func command(ctx context.Context, argv ...string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w: %s", argv, err, out)
	}
	return nil
}
