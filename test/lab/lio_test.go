package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"quorate/disk"
	"quorate/disk/iscsi"
	"quorate/test/lab/box"
)

const helperEnv = "QUORATE_LAB_HELPER" // makes the test binary one of the helpers, in a node

var helpers = map[string]func(context.Context) error{"fence": lioFence, "after": lioAfterRestart, "ride": ride}

func helper(name string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := helpers[name](ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

func permitted() error { return nil }

// openQ opens LUN Q through an initiator of that name, behind a gate.
func openQ(ctx context.Context, name string) (disk.LUN, *disk.Guard, error) {
	l, err := iscsi.Open(ctx, iscsi.Options{URL: LUNURL("Q"), InitiatorName: "iqn.2026-11.lab.quorate:" + name, Timeout: time.Second})
	if err != nil {
		return nil, nil, err
	}
	c, err := l.Capabilities(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := disk.NewGuard(l, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: permitted, Persist: c.Persist})
	return l, g, err
}

// ride writes without end, says when the path was lost, and ends well when it
// can write again.
func ride(ctx context.Context) error {
	l, g, err := openQ(ctx, "rider")
	if err != nil {
		return err
	}
	defer g.Close()
	if err := g.Admit(ctx, 0xc); err != nil {
		return err
	}
	fmt.Println("writing")
	for lost := false; ; {
		err := g.WriteAt(ctx, make([]byte, 4096), 0)
		switch {
		case err == nil && lost:
			r, err := l.Reservations(ctx)
			if err != nil || len(r.Keys) != 1 || r.Type != disk.WriteExclusiveRegistrantsOnly {
				return fmt.Errorf("after the loss: %+v, %w", r, err)
			}
			return l.Reserve(ctx, disk.ReserveOut{Action: disk.Clear, Key: 0xc})
		case errors.Is(err, disk.ErrPathLost) && !lost:
			lost = true
			fmt.Println("lost")
		case err != nil && !errors.Is(err, disk.ErrPathLost):
			return err
		}
	}
}

// rideOut pulls the storage cable of a node that writes, and puts it back.
func rideOut(t *testing.T, l *Lab) {
	t.Helper()
	ctx := testContext(t)
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	done := make(chan error, 1)
	go func() {
		defer w.Close()
		code, err := l.Exec(ctx, "s1", []string{"env", helperEnv + "=ride", os.Args[0]}, box.Stdio{Out: w, Err: w})
		if err == nil && code != 0 {
			err = fmt.Errorf("status %d", code)
		}
		done <- err
	}()
	for s := bufio.NewScanner(r); s.Scan(); {
		switch s.Text() {
		case "writing":
			must(t, l.Cut(ctx, "s1", Storage))
		case "lost":
			must(t, l.Heal(ctx, "s1", Storage))
		default:
			t.Log(s.Text())
		}
	}
	must(t, <-done)
}

// TestRideOut: a node that lost its cable to the SAN writes on by itself.
func TestRideOut(t *testing.T) { rideOut(t, raise(t, func(o *Options) { o.Nodes = 1 })) }

// lioFence: what the strict target can do, and a fence on it.
func lioFence(ctx context.Context) error {
	infos, err := iscsi.List(ctx, iscsi.Options{Portal: Portal, Target: TargetIQN, InitiatorName: "iqn.2026-11.lab.quorate:list"})
	if err != nil || len(infos) != len(luns) {
		return fmt.Errorf("list: %+v, %w", infos, err)
	}
	fmt.Printf("%+v\n", infos)
	a, ga, err := openQ(ctx, "a")
	if err != nil {
		return err
	}
	defer ga.Close()
	_, gb, err := openQ(ctx, "b")
	if err != nil {
		return err
	}
	defer gb.Close()
	c, err := a.Capabilities(ctx)
	if err != nil || !c.Reservations || !c.Persist || !c.PreemptAbort {
		return fmt.Errorf("capabilities: %+v, %w", c, err)
	}
	fmt.Printf("%+v\n", c)
	if err := errors.Join(ga.Admit(ctx, 0xa), gb.Admit(ctx, 0xb)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	if err := errors.Join(ga.WriteAt(ctx, buf, 0), gb.WriteAt(ctx, buf, 4096)); err != nil {
		return err
	}
	begin := time.Now()
	proof, err := disk.Fence(ctx, a, disk.FenceRequest{Own: 0xa, Victim: 0xb, Type: disk.WriteExclusiveRegistrantsOnly})
	if err != nil {
		return err
	}
	fmt.Println("fenced after", time.Since(begin), proof)
	if err := gb.WriteAt(ctx, buf, 4096); !errors.Is(err, disk.ErrFenced) {
		return fmt.Errorf("write of the fenced: %w", err)
	}
	if err := errors.Join(ga.WriteAt(ctx, buf, 0), gb.Admit(ctx, 0xb2), gb.WriteAt(ctx, buf, 4096)); err != nil {
		return err
	}
	return ga.Flush(ctx)
}

// lioAfterRestart: the keys are there, and the same initiators go on with them.
func lioAfterRestart(ctx context.Context) error {
	a, ga, err := openQ(ctx, "a")
	if err != nil {
		return err
	}
	defer ga.Close()
	// With ACLs made on demand, LIO gives a key back when its initiator logs
	// in, and does not list it before.
	_, gb, err := openQ(ctx, "b")
	if err != nil {
		return err
	}
	defer gb.Close()
	r, err := a.Reservations(ctx)
	if err != nil || !r.Has(0xa) || !r.Has(0xb2) || r.Has(0xb) || r.Type != disk.WriteExclusiveRegistrantsOnly {
		return fmt.Errorf("%+v, %w", r, err)
	}
	if err := errors.Join(ga.Admit(ctx, 0xa3), ga.WriteAt(ctx, make([]byte, 4096), 0)); err != nil {
		return err
	}
	return a.Reserve(ctx, disk.ReserveOut{Action: disk.Clear, Key: 0xa3})
}

// TestLIO: the strict SAN, its reservations, and its restart, which they
// survive.
func TestLIO(t *testing.T) {
	if os.Getenv("QUORATE_LIO") == "" {
		t.Skip("set QUORATE_LIO=1 to boot Linux's own target in QEMU (downloads Debian's cloud kernel)")
	}
	l := raise(t, func(o *Options) { o.SAN = SANLIO; o.Nodes = 1 })
	for _, h := range []string{"fence", "after"} {
		out, code := sh(t, l, "s1", helperEnv+"="+h+" "+os.Args[0])
		t.Log(h, out)
		if code != 0 {
			log, _ := os.ReadFile(l.LogPath(sanBox, sanDaemon))
			t.Fatalf("%s", log)
		}
		must(t, l.RestartSAN(testContext(t)))
	}
	rideOut(t, l)
	if out, _ := sh(t, l, "s1", "iscsi-ls iscsi://"+Portal); !strings.Contains(out, TargetIQN) {
		t.Error(out)
	}
}
