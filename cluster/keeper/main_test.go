package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
	"quorate/disk/file"
)

// asNoded names the directory of a node whose noded, or holder, this process is.
const (
	asNoded  = "QUORATE_TEST_NODED"
	asHolder = "QUORATE_TEST_HOLDER"
	// asLoad names the mount that this process uses.
	asLoad = "QUORATE_TEST_LOAD"
)

// TestMain is also noded, and its holder, for tests that need processes of their own.
func TestMain(m *testing.M) {
	if dir := os.Getenv(asNoded); dir != "" {
		os.Exit(nodedMain(dir))
	}
	if dir := os.Getenv(asLoad); dir != "" {
		os.Exit(loadMain(dir))
	}
	os.Exit(m.Run())
}

func nodedMain(dir string) int {
	log, err := zap.NewDevelopment(zap.IncreaseLevel(zap.InfoLevel))
	if err != nil {
		return 1
	}
	o := DefaultOptions("s1", log)
	o.StateDir, o.RunDir, o.StorageDir, o.Listen = filepath.Join(dir, "state"), filepath.Join(dir, "run"), filepath.Join(dir, "storage"), "127.0.0.1:0"
	o.OpenLUN = openKeptLUN
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if os.Getenv(asHolder) != "" {
		if err := Hold(ctx, o); err != nil {
			log.Error("hold", zap.Error(err))
		}
		return 0
	}
	o.StartHolder = func() error {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), asHolder+"=1")
		c.Stderr = os.Stderr
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			return err
		}
		go func() { _ = c.Wait() }()
		return nil
	}
	k, err := New(o)
	if err == nil {
		err = k.Start(ctx)
	}
	if err != nil {
		log.Error("start", zap.Error(err))
		return 1
	}
	replace := make(chan os.Signal, 1)
	signal.Notify(replace, syscall.SIGHUP)
	select {
	case <-ctx.Done():
	case <-replace:
		if err = k.HandOver(ctx); err == nil {
			err = syscall.Exec(os.Args[0], os.Args, os.Environ())
		}
		log.Error("replace", zap.Error(err))
		return 1
	}
	if err := k.Stop(context.Background()); err != nil {
		log.Error("stop", zap.Error(err))
		return 1
	}
	return 0
}

// keptLUN is a LUN of one node over files, which outlives the node's processes.
type keptLUN struct {
	disk.Device
	path string
	mu   sync.Mutex
}

func openKeptLUN(_ context.Context, l *keeperpb.Lun, _ string) (disk.LUN, error) {
	const size = 256 << 20
	path := strings.TrimPrefix(l.Url, "file://")
	d, err := file.Open(path, size)
	if err != nil {
		return nil, err
	}
	return &keptLUN{Device: d, path: path + ".keys"}, nil
}

func (l *keptLUN) Reservations(context.Context) (disk.Reservations, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.load()
}

func (l *keptLUN) load() (disk.Reservations, error) {
	var r disk.Reservations
	b, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	return r, err
}

// Reserve does as much as one node asks for.
func (l *keptLUN) Reserve(_ context.Context, out disk.ReserveOut) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, err := l.load()
	if err != nil {
		return err
	}
	switch out.Action {
	case disk.Register, disk.RegisterIgnore:
		r.Generation++
		r.Keys = slices.DeleteFunc(r.Keys, func(k disk.Key) bool { return k == out.ServiceKey || k == out.Key })
		if out.ServiceKey != 0 {
			r.Keys = append(r.Keys, out.ServiceKey)
		}
		if len(r.Keys) == 0 {
			r.Holder, r.Type = 0, 0
		}
	case disk.ReserveAction:
		r.Holder, r.Type = out.Key, out.Type
	case disk.Preempt:
		r.Generation++
		r.Keys = slices.DeleteFunc(r.Keys, func(k disk.Key) bool { return k == out.ServiceKey })
	default:
		return fmt.Errorf("action %v: %w", out.Action, disk.ErrUnsupported)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(l.path+".new", b, 0o600); err != nil {
		return err
	}
	return os.Rename(l.path+".new", l.path)
}

func (l *keptLUN) ResetUnit(context.Context) error { return nil }

func (l *keptLUN) Capabilities(context.Context) (disk.Capabilities, error) {
	return disk.Capabilities{Reservations: true, Persist: true, WriteCache: true, Types: []disk.Type{disk.WriteExclusiveRegistrantsOnly}}, nil
}
