//go:build cgo

package iscsi

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorate/disk"
	"quorate/test/lab/tgt"
)

// The late write trial: a victim in a process of its own keeps 64 writes in
// flight on a slow LUN, without any gate; it is left alive, killed or stopped,
// and fenced, or the target restarts in the middle of the fence. Whatever it
// writes after the proof is a failure. `make soak-fences` makes a hundred of each.
const (
	lateSlots = 64
	lateSize  = 4 << 10
	lateDelay = 20 * time.Millisecond // each write takes on the LUN
	victimEnv = "QUORATE_TEST_VICTIM" // the URL of the LUN; makes the test binary a victim
	urlEnv    = "QUORATE_TEST_LUN"    // the URL of a LUN that may be overwritten, for TestBystander
	runsEnv   = "QUORATE_FENCE_RUNS"  // runs of each kind instead of 20
)

// noReset is a LUN whose resets are claimed and not made: the control, which
// shows that the trial would see a late write.
type noReset struct{ disk.LUN }

func (noReset) ResetUnit(context.Context) error { return nil }

// restarting is a LUN whose target restarts once in the middle of a fence: after the
// answer to PREEMPT, while the reset is under way, or after the answer to that.
type restarting struct {
	disk.LUN
	point   int
	once    sync.Once
	restart func()
}

const restartPoints = 3

func (r *restarting) Session() uint64 { return r.LUN.(disk.Sessioned).Session() }

func (r *restarting) Reserve(ctx context.Context, out disk.ReserveOut) error {
	err := r.LUN.Reserve(ctx, out)
	if r.point == 0 && out.Action == disk.Preempt {
		r.once.Do(r.restart)
	}
	return err
}

func (r *restarting) ResetUnit(ctx context.Context) error {
	var meanwhile sync.WaitGroup
	defer meanwhile.Wait()
	if r.point == 1 {
		meanwhile.Go(func() { r.once.Do(r.restart) })
	}
	err := r.LUN.ResetUnit(ctx)
	if r.point == 2 {
		r.once.Do(r.restart)
	}
	return err
}

// victim writes until it is refused, and says so. It has no discipline at all: a
// new session and a unit attention only make it write again.
func victim(url string) int {
	ctx := context.Background()
	l, err := Open(ctx, Options{URL: url, InitiatorName: testName + "victim"})
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	defer l.Close()
	if err := l.Reserve(ctx, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 0xb}); err != nil {
		fmt.Println("failed", err)
		return 1
	}
	var wg sync.WaitGroup
	var sent atomic.Int64
	for i := range lateSlots {
		wg.Go(func() {
			for n := 0; ; n++ {
				if sent.Add(1) == 2*lateSlots {
					fmt.Println("writing")
				}
				err := l.WriteAt(ctx, bytes.Repeat([]byte{'v', byte(n)}, lateSize/2), int64(i*lateSize))
				var ua *disk.AttentionError
				if err != nil && !errors.As(err, &ua) && !errors.Is(err, disk.ErrPathLost) {
					return
				}
			}
		})
	}
	wg.Wait()
	fmt.Println("refused")
	return 0
}

func startVictim(t *testing.T, url string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), victimEnv+"="+url)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	s := bufio.NewScanner(out)
	if !s.Scan() || s.Text() != "writing" {
		t.Fatalf("the victim says %q", s.Text())
	}
	return cmd, s
}

func TestLateWrites(t *testing.T) {
	runs := 20
	if v := os.Getenv(runsEnv); v != "" {
		var err error
		runs, err = strconv.Atoi(v)
		must(t, err)
	}
	var slow *slowFile
	target, o := startTarget(t, func(o *tgt.Options) {
		const size = 8 << 20
		slow = slowBacking(t, filepath.Join(o.Dir, "slow.img"), size, lateDelay)
		o.LUNs = append(o.LUNs, tgt.LUN{Number: 3, Name: "slow", Size: size})
	})
	o.LUN = 3
	for _, mode := range []string{"alive", "killed", "stopped", "restarted", "control"} {
		t.Run(mode, func(t *testing.T) {
			runs := runs
			if mode == "restarted" && os.Getenv(runsEnv) == "" {
				runs = restartPoints // each takes seconds
			}
			var took []time.Duration
			late := int64(0)
			for n := range runs {
				d, stale := lateTrial(t, o, slow, mode, func(l disk.LUN) disk.LUN {
					return &restarting{LUN: l, point: n % restartPoints, restart: func() { must(t, target.Restart(context.Background())) }}
				})
				took = append(took, d)
				late += stale
			}
			slices.Sort(took)
			t.Logf("%d runs, a fence took %v (median) to %v; writes that landed after the proof: %d", runs, took[runs/2], took[runs-1], late)
			if late > 0 != (mode == "control") {
				t.Error("late writes are to be seen in the control, and only there")
			}
		})
	}
}

// lateTrial is one run; restarts makes a LUN whose target restarts under a fence.
func lateTrial(t *testing.T, o Options, slow *slowFile, mode string, restarts func(disk.LUN) disk.LUN) (took time.Duration, late int64) {
	t.Helper()
	ctx := testContext(t)
	l, err := Open(ctx, node(o, "fencer"))
	must(t, err)
	defer l.Close()
	g, err := disk.NewGuard(l, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: func() error { return nil }})
	must(t, err)
	must(t, g.Admit(ctx, 0xa))
	cmd, says := startVictim(t, URL(o.Portal, o.Target, o.LUN))
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	fencing := l
	switch mode {
	case "killed":
		must(t, cmd.Process.Kill())
	case "stopped":
		must(t, cmd.Process.Signal(syscall.SIGSTOP))
	case "control":
		fencing = noReset{l}
	case "restarted":
		fencing = restarts(l)
	}
	begin := time.Now()
	_, err = disk.Fence(ctx, fencing, disk.FenceRequest{Own: 0xa, Victim: 0xb, Type: disk.WriteExclusiveRegistrantsOnly})
	for mode == "restarted" && errors.Is(err, disk.ErrNotFenced) && ctx.Err() == nil {
		// The target has forgotten the fencer too: its gate takes the key back.
		awaitWrite(t, ctx, g, make([]byte, lateSize))
		_, err = disk.Fence(ctx, fencing, disk.FenceRequest{Own: 0xa, Victim: 0xb, Type: disk.WriteExclusiveRegistrantsOnly})
	}
	landed := slow.landed.Load()
	took = time.Since(begin)
	must(t, err)
	mine := bytes.Repeat([]byte("F"), lateSlots*lateSize)
	must(t, g.WriteAt(ctx, mine, 0))
	if mode != "killed" {
		must(t, cmd.Process.Signal(syscall.SIGCONT))
		if !says.Scan() || says.Text() != "refused" {
			t.Fatalf("the victim says %q", says.Text())
		}
	}
	// Several rounds through the target's queue behind whatever is in it.
	got := make([]byte, len(mine))
	for range 5 {
		must(t, g.WriteAt(ctx, mine[:lateSize], lateSlots*lateSize))
	}
	must(t, g.ReadAt(ctx, got, 0))
	late = slow.landed.Load() - landed
	if late == 0 && !bytes.Equal(got, mine) {
		t.Error("what was written after the proof is not there")
	}
	return took, late
}

// TestBystander: a third node that writes behind its gate goes on through a
// fence of another, without an error and without a long stall.
func TestBystander(t *testing.T) {
	ctx := testContext(t)
	o := Options{URL: os.Getenv(urlEnv)}
	if o.URL == "" {
		_, o = startTarget(t, func(o *tgt.Options) {
			const size = 8 << 20
			slowBacking(t, filepath.Join(o.Dir, "slow.img"), size, lateDelay)
			o.LUNs = append(o.LUNs, tgt.LUN{Number: 3, Name: "slow", Size: size})
		})
		o.LUN = 3
	}
	permit := func() error { return nil }
	open := func(name string, key disk.Key) (disk.LUN, *disk.Guard) {
		l, err := Open(ctx, node(o, name))
		must(t, err)
		g, err := disk.NewGuard(l, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: permit})
		must(t, err)
		t.Cleanup(func() { g.Close() })
		must(t, g.Admit(ctx, key))
		return l, g
	}
	a, _ := open("a", 0xa)
	_, b := open("b", 0xb)
	_, c := open("c", 0xc)
	var wg sync.WaitGroup
	var stop atomic.Bool
	var worst, writes atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			for !stop.Load() {
				begin := time.Now()
				if err := c.WriteAt(ctx, make([]byte, lateSize), int64(i*lateSize)); err != nil {
					t.Error(err)
					return
				}
				writes.Add(1)
				longest(&worst, time.Since(begin))
			}
		})
		wg.Go(func() {
			for {
				if err := b.WriteAt(ctx, make([]byte, lateSize), int64((16+i)*lateSize)); err != nil {
					if !errors.Is(err, disk.ErrFenced) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	for writes.Load() < 32 && !t.Failed() {
		must(t, a.ReadAt(ctx, make([]byte, 512), 0))
	}
	begin := time.Now()
	_, err := disk.Fence(ctx, a, disk.FenceRequest{Own: 0xa, Victim: 0xb, Type: disk.WriteExclusiveRegistrantsOnly})
	must(t, err)
	took := time.Since(begin)
	for at := writes.Load() + 64; writes.Load() < at && !t.Failed(); {
		must(t, a.ReadAt(ctx, make([]byte, 512), 0))
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("the fence took %v, the longest write of the bystander %v", took, time.Duration(worst.Load()))
	if time.Duration(worst.Load()) > 2*time.Second {
		t.Error("the bystander stalled")
	}
}

func longest(worst *atomic.Int64, d time.Duration) {
	for w := worst.Load(); int64(d) > w && !worst.CompareAndSwap(w, int64(d)); w = worst.Load() {
	}
}

// TestGuardOnTgt: the gate rides out a restart of the target, which forgets
// every key, and the loss of the session, which leaves a duplicate.
func TestGuardOnTgt(t *testing.T) {
	ctx := testContext(t)
	target, o := startTarget(t)
	for _, kind := range []disk.Type{disk.WriteExclusive, disk.WriteExclusiveRegistrantsOnly} {
		l, err := Open(ctx, node(o, "a"))
		must(t, err)
		g, err := disk.NewGuard(l, disk.GuardOptions{Type: kind, Permit: func() error { return nil }})
		must(t, err)
		must(t, g.Admit(ctx, 0xa))
		b := bytes.Repeat([]byte{1}, 4096)
		must(t, g.WriteAt(ctx, b, 0))
		must(t, target.Restart(ctx))
		awaitWrite(t, ctx, g, b)
		breakSession(t, ctx, target, l)
		awaitWrite(t, ctx, g, b)
		r, err := l.Reservations(ctx)
		must(t, err)
		if len(r.Keys) != 1 || r.Type != kind {
			t.Errorf("type %d: %+v", kind, r)
		}
		must(t, l.Reserve(ctx, disk.ReserveOut{Action: disk.Clear, Key: 0xa}))
		must(t, g.Close())
	}
}

// awaitWrite writes until the path is there again; anything but a lost path is
// a failure.
func awaitWrite(t *testing.T, ctx context.Context, d disk.Device, b []byte) {
	t.Helper()
	for {
		err := d.WriteAt(ctx, b, 0)
		if err == nil {
			return
		}
		if !errors.Is(err, disk.ErrPathLost) {
			t.Fatal(err)
		}
	}
}
