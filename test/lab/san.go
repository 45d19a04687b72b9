package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"quorate/test/lab/box"
	"quorate/test/lab/tgt"
)

// sanDaemon is the name of the target's process in the SAN's box.
const sanDaemon = "target"

// luns are the SAN's, of the sizes in the administrator's plan.
var luns = []tgt.LUN{
	{Number: 1, Name: "Q", Size: 500 << 20, ID: "10a1", Serial: "LABQ0001"},
	{Number: 2, Name: "V", Size: 1024 << 30, ID: "10a2", Serial: "LABV0002"},
	{Number: 3, Name: "R", Size: 200 << 20, ID: "10a3", Serial: "LABR0003"},
	{Number: 4, Name: "S", Size: 500 << 30, ID: "10a4", Serial: "LABS0004"},
}

// LUNs lists the SAN's: Q for quorum, V for machines, R and S.
func LUNs() []tgt.LUN { return append([]tgt.LUN(nil), luns...) }

// LUNURL names a LUN as a node does.
func LUNURL(name string) string {
	for _, lun := range luns {
		if lun.Name == name {
			return fmt.Sprintf("iscsi://%s/%s/%d", Portal, TargetIQN, lun.Number)
		}
	}
	return ""
}

// LUNFile is a LUN's backing file on the host.
func (l *Lab) LUNFile(name string) string { return filepath.Join(l.box(sanBox).Dir(), name+".img") }

func (l *Lab) tgt() tgt.Options {
	return tgt.Options{Dir: l.box(sanBox).Dir(), Portal: Portal, IQN: TargetIQN, LUNs: luns}
}

// startSAN boots the SAN.
func (l *Lab) startSAN(ctx context.Context) error {
	if err := l.tgt().Prepare(); err != nil {
		return err
	}
	dir := l.box(sanBox).Dir()
	_, err := box.Start(ctx, box.Spec{Dir: dir, Hostname: sanBox}, func(pid int) error {
		mac := net.HardwareAddr{0x52, 0x54, 0x00, 0x1a, 0xff, 0x01}
		if err := l.plug(sanBox, pid, Storage, "eth0", mac); err != nil {
			return err
		}
		h, err := handleOf(pid)
		if err != nil {
			return err
		}
		defer h.Close()
		if err := configure(h, "lo", ""); err != nil {
			return err
		}
		if l.o.SAN == SANLIO {
			return bridgeTap(h, "eth0")
		}
		return configure(h, "eth0", SANAddress+"/24")
	})
	if err != nil {
		return fmt.Errorf("boot the SAN: %w", err)
	}
	return l.startTarget(ctx)
}

const targetLimit = 20 * time.Second // for tgtd to answer

// startTarget starts the target's process and waits until it serves.
func (l *Lab) startTarget(ctx context.Context) error {
	if l.o.SAN == SANLIO {
		return l.startLIO(ctx)
	}
	b, t := l.box(sanBox), l.tgt()
	if err := b.StartDaemon(ctx, sanDaemon, t.Daemon(), t.Env()); err != nil {
		return fmt.Errorf("start tgtd: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, targetLimit)
	defer cancel()
	for {
		err := run(ctx, b, t.Ping(), t.Env())
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("tgtd does not answer: %w", err)
		}
	}
	for _, argv := range t.Setup() {
		if err := run(ctx, b, argv, t.Env()); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command in a box and fails unless its status is 0.
func run(ctx context.Context, b box.Box, argv, env []string) error {
	var out bytes.Buffer
	code, err := b.Exec(ctx, argv, env, box.Stdio{Out: &out, Err: &out})
	if err == nil && code != 0 {
		err = fmt.Errorf("status %d: %s", code, bytes.TrimSpace(out.Bytes()))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
	}
	return nil
}

// TakeLUN takes one LUN away from all nodes; GiveLUN gives it back. tgt alone can.
func (l *Lab) TakeLUN(ctx context.Context, name string) error { return l.setLUN(ctx, name, false) }

// GiveLUN gives back a LUN that was taken away.
func (l *Lab) GiveLUN(ctx context.Context, name string) error { return l.setLUN(ctx, name, true) }

func (l *Lab) setLUN(ctx context.Context, name string, there bool) error {
	i := slices.IndexFunc(luns, func(lun tgt.LUN) bool { return lun.Name == name })
	if i < 0 || l.o.SAN != SANTgt {
		return fmt.Errorf("a LUN %q of %s cannot be taken away or given back", name, l.o.SAN)
	}
	t := l.tgt()
	steps := [][]string{t.Take(luns[i].Number)}
	if there {
		steps = t.Give(luns[i])
	}
	for _, argv := range steps {
		if err := run(ctx, l.box(sanBox), argv, t.Env()); err != nil {
			return err
		}
	}
	return nil
}

// StopSAN kills the target. tgt forgets reservations by that; the LUNs' contents
// stay.
func (l *Lab) StopSAN(ctx context.Context) error {
	return l.change(func() error { return l.box(sanBox).StopDaemon(ctx, sanDaemon, syscall.SIGKILL) })
}

// StartSAN starts the target after StopSAN.
func (l *Lab) StartSAN(ctx context.Context) error {
	return l.change(func() error { return l.startTarget(ctx) })
}

// GrowLUN makes a LUN larger by some bytes, of which a target learns as it starts.
func (l *Lab) GrowLUN(ctx context.Context, name string, by int64) error {
	st, err := os.Stat(l.LUNFile(name))
	if err != nil || by <= 0 {
		return errors.Join(fmt.Errorf("the LUN %q cannot be grown by %d bytes", name, by), err)
	}
	if err := l.StopSAN(ctx); err != nil {
		return err
	}
	return errors.Join(os.Truncate(l.LUNFile(name), st.Size()+by), l.StartSAN(ctx))
}

// HangSAN stops everything of the SAN where it stands; WakeSAN lets it go on.
func (l *Lab) HangSAN(ctx context.Context) error { return l.box(sanBox).Hang(ctx) }

// WakeSAN undoes HangSAN.
func (l *Lab) WakeSAN(ctx context.Context) error { return l.box(sanBox).Wake(ctx) }

// RestartSAN is StopSAN and StartSAN.
func (l *Lab) RestartSAN(ctx context.Context) error {
	return errors.Join(l.StopSAN(ctx), l.StartSAN(ctx))
}
