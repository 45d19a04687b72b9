package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
)

// DefaultPort is where noded listens for the clients of volumes.
const DefaultPort = "7401"

// Options are what noded needs.
type Options struct {
	// StateDir holds what must survive a restart, and the node's identity.
	StateDir string
	// RunDir holds the socket, and below machines those of the machines.
	RunDir string
	// StorageDir is where volumes are mounted.
	StorageDir string
	// Listen is host:port for the clients of volumes on other nodes.
	Listen string
	// InitiatorName is the node's iSCSI name, where a request gives none.
	InitiatorName string
	// Version is shown in the status.
	Version string
	// OpenLUN opens a LUN; purpose tells apart what the same node uses the
	// same LUN for. Nil opens by the scheme of the URL.
	OpenLUN func(ctx context.Context, lun *keeperpb.Lun, purpose string) (disk.LUN, error)
	// Clock is the time since some instant, counting while suspended.
	Clock func() time.Duration
	// Kill kills the node's machines and returns how many there were. Nil
	// kills the QEMU processes whose command lines name RunDir.
	Kill func() int
	// StartHolder starts `noded hold` for RunDir, so that machines outlive this process;
	// nil: they do not.
	StartHolder func() error
	Log         *zap.Logger

	wire wire // nil is the node's own interfaces
}

// DefaultOptions are those of an installed node.
func DefaultOptions(hostname string, log *zap.Logger) Options {
	return Options{
		StateDir: "/var/lib/quorate", RunDir: "/run/quorate", StorageDir: "/ClusterStorage", Listen: ":" + DefaultPort,
		InitiatorName: "iqn.2026-11.io.quorate:" + hostname, Clock: BootTime, Log: log,
	}
}

// Validate returns every fault of the options.
func (o Options) Validate() error {
	var errs []error
	for name, dir := range map[string]string{"StateDir": o.StateDir, "RunDir": o.RunDir, "StorageDir": o.StorageDir} {
		if !filepath.IsAbs(dir) {
			errs = append(errs, fmt.Errorf("%s: %q: must be an absolute path", name, dir))
		}
	}
	_, port, err := net.SplitHostPort(o.Listen)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		errs = append(errs, fmt.Errorf("Listen: %q: must be host:port: %w", o.Listen, err))
	}
	if o.Clock == nil || o.Log == nil {
		errs = append(errs, errors.New("Clock and Log must be given"))
	}
	return errors.Join(errs...)
}

// BootTime reads CLOCK_BOOTTIME.
func BootTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(ts.Nano())
}
