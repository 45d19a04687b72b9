package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// probeTimeout is how long the probe's guest may take; it needs a tenth of a
// second.
const probeTimeout = 10 * time.Second

// probeExit is what the probe's guest writes to isa-debug-exit; QEMU then exits
// with twice that plus one.
const probeExit = 0x10

// Acceleration says how machines are run on this node.
type Acceleration struct {
	// KVM says that processors run on KVM.
	KVM bool
	// Reason is why not, for the operator; empty with KVM.
	Reason string
}

// accel is QEMU's name of it.
func (a Acceleration) accel() Accel {
	if a.KVM {
		return AccelKVM
	}
	return AccelTCG
}

// Probe finds out whether KVM works here, by running a guest of a few bytes on
// it: a /dev/kvm that can be opened proves nothing where virtualisation is
// nested. The answer is kept. It errs only if there is no QEMU at all, or KVM
// was demanded by the options and does not work.
func (h *Host) Probe(ctx context.Context) (Acceleration, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.mu.probed != nil {
		return *h.mu.probed, nil
	}
	if _, err := exec.LookPath(h.o.Binary); err != nil {
		return Acceleration{}, fmt.Errorf("vm: no QEMU; install Debian's qemu-system-x86: %w", err)
	}
	a := Acceleration{Reason: "the node is set to TCG"}
	if h.o.Accel != AccelTCG {
		err := h.runProbe(ctx, AccelKVM)
		if ctx.Err() != nil {
			return Acceleration{}, fmt.Errorf("vm: probing KVM: %w", ctx.Err())
		}
		a = Acceleration{KVM: err == nil}
		if err != nil {
			a.Reason = err.Error()
		}
		if h.o.Accel == AccelKVM && err != nil {
			return a, fmt.Errorf("vm: the node is set to KVM, which does not work; set it to auto or mend KVM: %w", err)
		}
	}
	if !a.KVM {
		h.o.Log.Sugar().Warnf("machines run without KVM, and slowly: %s", a.Reason)
	}
	h.mu.probed = &a
	return a, nil
}

// runProbe runs a guest whose firmware does nothing but leave.
func (h *Host) runProbe(ctx context.Context, accel Accel) error {
	if accel == AccelKVM {
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("KVM is not there: %w", err)
		}
		_ = f.Close() // nothing was written
	}
	firmware, err := os.CreateTemp("", "quorate-probe-")
	if err != nil {
		return fmt.Errorf("vm: probe: %w", err)
	}
	defer func() { _ = os.Remove(firmware.Name()) }()
	if _, err := firmware.Write(probeFirmware()); err != nil {
		return fmt.Errorf("vm: probe: %w", errors.Join(err, firmware.Close()))
	}
	if err := firmware.Close(); err != nil {
		return fmt.Errorf("vm: probe: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.o.Binary, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "pc,accel="+string(accel), "-m", "16", "-bios", firmware.Name(),
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == probeExit<<1|1:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("a guest on %s did not run within %v", accel, probeTimeout)
	default:
		return fmt.Errorf("a guest on %s failed: %w: %s", accel, err, bytes.TrimSpace(out))
	}
}

// probeFirmware is 64 KiB with code where a processor begins, 16 bytes before
// the end: mov al, probeExit; out 0xf4, al; hlt; jmp back.
func probeFirmware() []byte {
	rom := make([]byte, 64<<10)
	copy(rom[len(rom)-16:], []byte{0xb0, probeExit, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd})
	return rom
}
