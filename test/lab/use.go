package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"

	"quorate/test/lab/box"
)

// Exec runs argv on a node, on the SAN for "san", or on the administrator's machine
// for Admin, and returns its exit
// status; 128 and more is a signal. When ctx ends, it is killed.
func (l *Lab) Exec(ctx context.Context, node string, argv []string, stdio box.Stdio) (int, error) {
	b, err := l.find(node)
	if err != nil {
		return 0, err
	}
	if b.Hung() {
		return 0, fmt.Errorf("%s hangs; wake it first", node)
	}
	code, err := b.Exec(ctx, argv, nil, stdio)
	if err != nil {
		return 0, fmt.Errorf("run %q on %s: %w", argv, node, err)
	}
	return code, nil
}

func (l *Lab) find(name string) (box.Box, error) {
	if name != sanBox && name != Admin {
		if _, err := l.index(name); err != nil {
			return box.Box{}, err
		}
	}
	return l.box(name), nil
}

func known(daemon string) error {
	if !slices.Contains(daemons, daemon) {
		return fmt.Errorf("there is no daemon %q; there are %v", daemon, daemons)
	}
	return nil
}

// StartDaemon starts clusterd or noded on a node where it does not run.
func (l *Lab) StartDaemon(ctx context.Context, node, daemon string) error {
	b, err := l.find(node)
	if err := errors.Join(err, known(daemon)); err != nil {
		return err
	}
	return l.startDaemon(ctx, b, node, daemon)
}

// StopDaemon sends SIGTERM to clusterd or noded and waits until it has gone.
// What it has started stays.
func (l *Lab) StopDaemon(ctx context.Context, node, daemon string) error {
	return l.SignalDaemon(ctx, node, daemon, syscall.SIGTERM)
}

// SignalDaemon is StopDaemon with a signal that ends it, such as SIGKILL.
func (l *Lab) SignalDaemon(ctx context.Context, node, daemon string, sig syscall.Signal) error {
	b, err := l.find(node)
	if err := errors.Join(err, known(daemon)); err != nil {
		return err
	}
	return b.StopDaemon(ctx, daemon, sig)
}

// LogPath is where a daemon's log lies on the host.
func (l *Lab) LogPath(node, daemon string) string { return l.box(node).LogPath(daemon) }

// Logs copies the logs of a node's daemons to w, those of one daemon where one
// is named.
func (l *Lab) Logs(node string, w io.Writer, only ...string) error {
	if _, err := l.find(node); err != nil {
		return err
	}
	names := only
	if len(names) == 0 {
		names = append(slices.Clone(daemons), "init")
	}
	if node == sanBox && len(only) == 0 {
		names = []string{sanDaemon, "init"}
	}
	for _, n := range names {
		f, err := os.Open(l.LogPath(node, n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if len(names) > 1 {
			fmt.Fprintf(w, "==> %s <==\n", n)
		}
		_, err = io.Copy(w, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
