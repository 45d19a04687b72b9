package vm

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Accel is how a machine's processors are run.
type Accel string

// The ways to run processors.
const (
	AccelAuto Accel = "auto" // KVM where a probe shows that it works, else TCG
	AccelKVM  Accel = "kvm"
	AccelTCG  Accel = "tcg" // by translation: slow, works everywhere
)

// DefaultRunDir is where the sockets and pid files of a node's machines lie.
const DefaultRunDir = "/run/quorate/machines"

// Options of a Host. Zero fields get defaults.
type Options struct {
	// RunDir holds a folder for each running machine. It must be on a file
	// system that is emptied when the node boots, and its path short: sockets
	// below it may have 107 characters at most.
	RunDir string
	// Binary is the QEMU to start.
	Binary string
	// Accel is auto unless said.
	Accel Accel
	// Bridges names this node's bridge for a network of the cluster. Without
	// it machines with networks do not start.
	Bridges func(network string) (bridge string, err error)
	// QMPTimeout is the longest wait for an answer of a QEMU.
	QMPTimeout time.Duration
	// StartTimeout is how long a new QEMU may take until it answers.
	StartTimeout time.Duration
	// Log gets what is done to machines. nil logs nothing.
	Log *zap.Logger
}

// withDefaults fills what was left out.
func (o Options) withDefaults() Options {
	if o.RunDir == "" {
		o.RunDir = DefaultRunDir
	}
	if o.Binary == "" {
		o.Binary = "qemu-system-x86_64"
	}
	if o.Accel == "" {
		o.Accel = AccelAuto
	}
	if o.QMPTimeout == 0 {
		o.QMPTimeout = 5 * time.Second
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o
}

// Validate lists everything that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	if o.RunDir != "" && !filepath.IsAbs(o.RunDir) {
		faults = append(faults, fmt.Errorf("vm: Options.RunDir %q is not absolute", o.RunDir))
	}
	switch o.Accel {
	case "", AccelAuto, AccelKVM, AccelTCG:
	default:
		faults = append(faults, fmt.Errorf("vm: Options.Accel %q is not one of auto, kvm, tcg", o.Accel))
	}
	if o.QMPTimeout < 0 {
		faults = append(faults, fmt.Errorf("vm: Options.QMPTimeout %v is negative", o.QMPTimeout))
	}
	if o.StartTimeout < 0 {
		faults = append(faults, fmt.Errorf("vm: Options.StartTimeout %v is negative", o.StartTimeout))
	}
	return errors.Join(faults...)
}

// Host starts and finds the machines of this node. Its methods may be called by
// several goroutines, and by several processes, at once.
type Host struct {
	o Options

	mu struct {
		sync.Mutex
		probed *Acceleration // the answer of Probe
	}
}

// NewHost checks the options; it starts nothing.
func NewHost(o Options) (*Host, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Host{o: o.withDefaults()}, nil
}
