package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/vishvananda/netlink"
)

// within runs this program anew in a network namespace of its own, which ends with it,
// and where the loopback carries so many bits in a second; 0: all that it can.
func within(ctx context.Context, bits uint64) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, append(os.Args[1:], fmt.Sprintf("-inside=%d", bits))...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it clears up
	return cmd.Run()
}

// raise sets up the namespace's loopback.
func raise(bits uint64) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil || bits == 0 {
		return err
	}
	const burst = 1 << 20
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bits / 8, Buffer: netlink.Xmittime(bits/8, burst), Limit: 8 << 20,
	}
	if err := netlink.QdiscAdd(tbf); err != nil {
		return errors.Join(errors.New("the link cannot be limited (tbf)"), err)
	}
	return nil
}
