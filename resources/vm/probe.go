package vm

import (
	"bytes"
	"context"
	_ "embed" // the probe's guest
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// probeTimeout is how long the probe's guest may take; it needs a quarter of a
// second.
const probeTimeout = 10 * time.Second

// maxProbeOutput is how much is kept of what its QEMU says, in bytes.
const maxProbeOutput = 16 << 10

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

// Probe finds out whether KVM works here, by booting a guest on it that does what an
// operating system does first: neither a /dev/kvm that can be opened nor a few
// instructions that run prove anything where virtualisation is nested. The answer is
// kept. It errs only if there is no QEMU at all, or KVM
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

// probeSector is the boot sector of the probe's guest, made of probe.asm.
//
//go:embed probe.bin
var probeSector []byte

// runProbe boots a guest by QEMU's own firmware, from a disk whose boot sector waits
// for interrupts, enters long mode, and leaves.
func (h *Host) runProbe(ctx context.Context, accel Accel) error {
	if accel == AccelKVM {
		f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("KVM is not there: %w", err)
		}
		_ = f.Close() // nothing was written
	}
	disk, err := os.CreateTemp("", "quorate-probe-")
	if err != nil {
		return fmt.Errorf("vm: probe: %w", err)
	}
	defer func() { _ = os.Remove(disk.Name()) }()
	if _, err := disk.Write(probeSector); err != nil {
		return fmt.Errorf("vm: probe: %w", errors.Join(err, disk.Close()))
	}
	if err := disk.Close(); err != nil {
		return fmt.Errorf("vm: probe: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.o.Binary, "-nodefaults", "-no-user-config", "-display", "none",
		"-machine", "pc,accel="+string(accel), "-m", "16", "-drive", "file="+disk.Name()+",format=raw,if=ide",
		"-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")
	said := &probeOutput{broken: cancel}
	cmd.Stdout, cmd.Stderr = said, said
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == probeExit<<1|1:
		return nil
	case said.failed:
		return fmt.Errorf("a guest on %s came upon what %s cannot do here: %s", accel, accel, said.last())
	case ctx.Err() != nil:
		return fmt.Errorf("a guest on %s did not run within %v", accel, probeTimeout)
	default:
		return fmt.Errorf("a guest on %s failed: %w: %s", accel, err, said.last())
	}
}

// probeOutput is what the probe's QEMU says. One that KVM fails stands still and says
// so; it is ended then.
type probeOutput struct {
	broken func()
	text   []byte
	failed bool
}

// kvmFailed is what QEMU says of a guest that KVM cannot run on.
var kvmFailed = []byte("KVM internal error")

// Write implements io.Writer.
func (o *probeOutput) Write(b []byte) (int, error) {
	if room := maxProbeOutput - len(o.text); room > 0 {
		o.text = append(o.text, b[:min(room, len(b))]...)
	}
	if !o.failed && bytes.Contains(o.text, kvmFailed) {
		o.failed = true
		o.broken()
	}
	return len(b), nil
}

// last is the line that tells most.
func (o *probeOutput) last() string {
	at := max(0, bytes.Index(o.text, kvmFailed))
	line, _, _ := bytes.Cut(bytes.TrimSpace(o.text[at:]), []byte("\n"))
	return string(line)
}
