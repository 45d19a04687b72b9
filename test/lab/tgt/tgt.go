// Package tgt runs Debian's tgtd as an iSCSI target of one's own, for tests and
// for the lab: with its own control socket, on an address of the caller's
// choice, with LUNs over sparse files.
//
// It is called by tests of the disk packages and by test/lab. It never touches a
// tgtd that it did not start.
//
// Traps: a restart forgets every registration and reservation, as tgt does.
package tgt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// LUN is one logical unit.
type LUN struct {
	// Number is 1 or more: tgt keeps 0 for its controller.
	Number int
	// Name is the file's, and the product's in INQUIRY.
	Name string
	// Size is in bytes.
	Size int64
	// ID and Serial go into VPD pages 0x83 and 0x80. ID is up to 16 hex
	// digits.
	ID, Serial string
	// Sync opens the file with O_SYNC, which makes writes slow.
	Sync bool
}

// Options tell what to run.
type Options struct {
	// Dir is for the files, the control socket and the log. It must be there.
	Dir string
	// Portal is address:port to listen on.
	Portal string
	IQN    string
	LUNs   []LUN
	// User and Password are for CHAP; none where User is empty.
	User, Password string
}

// Target is a tgtd that runs.
type Target struct {
	o    Options
	cmd  *exec.Cmd
	done chan struct{}
}

const upLimit = 10 * time.Second // for tgtd to answer

// Missing tells what has to be installed, or nil.
func Missing() error {
	for _, b := range []string{"tgtd", "tgtadm"} {
		if find(b) == "" {
			return fmt.Errorf("%s is not installed: apt-get install tgt", b)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("tgtd has to be run by root")
	}
	return nil
}

// find looks in the system's folders too, which may not be in the PATH.
func find(name string) string {
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p
		}
	}
	return ""
}

// Start makes the files that are not there and runs tgtd.
func Start(ctx context.Context, o Options) (*Target, error) {
	if err := Missing(); err != nil {
		return nil, err
	}
	if err := o.Prepare(); err != nil {
		return nil, err
	}
	t := &Target{o: o}
	if err := t.up(ctx); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

// Prepare makes the files that are not there.
func (o Options) Prepare() error {
	for _, l := range o.LUNs {
		if err := sparse(o.file(l), l.Size); err != nil {
			return err
		}
	}
	return nil
}

// Daemon is the command that runs tgtd in the foreground.
func (o Options) Daemon() []string {
	return []string{find("tgtd"), "-f", "-C", "7", "--iscsi", "portal=" + o.Portal}
}

// Env is what tgtd and tgtadm have to find in their environment.
func (o Options) Env() []string {
	return []string{"TGT_IPC_SOCKET=" + filepath.Join(o.Dir, "tgtd.sock")}
}

// Ping is the command that succeeds when tgtd is up.
func (o Options) Ping() []string { return o.admin("--op", "show", "--mode", "sys") }

// Take is the command that takes a LUN away.
func (o Options) Take(number int) []string {
	return o.admin("--op", "delete", "--mode", "logicalunit", "--tid", "1", "--lun", strconv.Itoa(number))
}

// Give are the commands that make a LUN, or give it back.
func (o Options) Give(l LUN) [][]string {
	steps := o.lun(l)
	for i, s := range steps {
		steps[i] = o.admin(s...)
	}
	return steps
}

func (o Options) admin(args ...string) []string {
	return append([]string{find("tgtadm"), "-C", "7", "--lld", "iscsi"}, args...)
}

func sparse(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() >= size {
		return err
	}
	return f.Truncate(size)
}

func (o Options) file(l LUN) string { return filepath.Join(o.Dir, l.Name+".img") }

// File is the path of a LUN's backing file.
func (t *Target) File(number int) string {
	for _, l := range t.o.LUNs {
		if l.Number == number {
			return t.o.file(l)
		}
	}
	return ""
}

// PID is tgtd's process id.
func (t *Target) PID() int { return t.cmd.Process.Pid }

func (t *Target) up(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(t.o.Dir, "tgtd.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	t.cmd = t.command(context.Background(), t.o.Daemon())
	t.cmd.Stdout, t.cmd.Stderr = log, log
	t.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := t.cmd.Start(); err != nil {
		return fmt.Errorf("start tgtd: %w", err)
	}
	t.done = make(chan struct{})
	go func(cmd *exec.Cmd, done chan struct{}) { _ = cmd.Wait(); close(done) }(t.cmd, t.done)
	if err := t.await(ctx); err != nil {
		return err
	}
	return t.configure(ctx)
}

// await waits until tgtd answers.
func (t *Target) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, upLimit)
	defer cancel()
	for {
		err := t.run(ctx, t.o.Ping())
		if err == nil {
			return nil
		}
		select {
		case <-t.done:
			return fmt.Errorf("tgtd ended at once; see %s", filepath.Join(t.o.Dir, "tgtd.log"))
		case <-ctx.Done():
			return fmt.Errorf("tgtd does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Setup lists the commands that give a tgtd that has just started its target.
func (o Options) Setup() [][]string {
	steps := [][]string{{"--op", "new", "--mode", "target", "--tid", "1", "-T", o.IQN}}
	for _, l := range o.LUNs {
		steps = append(steps, o.lun(l)...)
	}
	if o.User != "" {
		steps = append(steps,
			[]string{"--op", "new", "--mode", "account", "--user", o.User, "--password", o.Password},
			[]string{"--op", "bind", "--mode", "account", "--tid", "1", "--user", o.User})
	}
	steps = append(steps, []string{"--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"})
	for i, s := range steps {
		steps[i] = o.admin(s...)
	}
	return steps
}

// lun is how one LUN is made, without the program's name.
func (o Options) lun(l LUN) [][]string {
	lun := strconv.Itoa(l.Number)
	step := []string{"--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", lun, "-b", o.file(l)}
	if l.Sync {
		step = append(step, "--bsoflags", "sync")
	}
	params := "vendor_id=QUORATE,product_id=" + l.Name
	if l.ID != "" {
		params += ",scsi_id=" + l.ID
	}
	if l.Serial != "" {
		params += ",scsi_sn=" + l.Serial
	}
	return [][]string{step, {"--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", lun, "--params", params}}
}

func (t *Target) configure(ctx context.Context) error {
	for _, argv := range t.o.Setup() {
		if err := t.run(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) command(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), t.o.Env()...)
	return cmd
}

func (t *Target) run(ctx context.Context, argv []string) error {
	if out, err := t.command(ctx, argv).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// Kill ends tgtd at once, as a loss of power does; Run starts it again.
func (t *Target) Kill() {
	if t.cmd == nil || t.cmd.Process == nil || t.done == nil {
		return
	}
	_ = syscall.Kill(-t.cmd.Process.Pid, syscall.SIGKILL)
	<-t.done
}

// Run starts tgtd again after Kill.
func (t *Target) Run(ctx context.Context) error { return t.up(ctx) }

// Restart is Kill and Run: the target forgets its reservations.
func (t *Target) Restart(ctx context.Context) error {
	t.Kill()
	return t.up(ctx)
}

// Pause stops tgtd's processes (SIGSTOP), so that nothing is answered.
func (t *Target) Pause() error { return syscall.Kill(-t.cmd.Process.Pid, syscall.SIGSTOP) }

// Resume undoes Pause.
func (t *Target) Resume() error { return syscall.Kill(-t.cmd.Process.Pid, syscall.SIGCONT) }

// Stop ends tgtd and removes its socket. The LUNs' files stay.
func (t *Target) Stop() error {
	t.Kill()
	socks, _ := filepath.Glob(filepath.Join(t.o.Dir, "tgtd.sock*"))
	var errs []error
	for _, s := range socks {
		errs = append(errs, os.Remove(s))
	}
	return errors.Join(errs...)
}

// WriteLog copies tgtd's log to w.
func (t *Target) WriteLog(w io.Writer) error {
	b, err := os.ReadFile(filepath.Join(t.o.Dir, "tgtd.log"))
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
