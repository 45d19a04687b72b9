package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"quorate/cluster/keeper"
)

// handOverTimeout bounds how long coordinators may take to write their last.
const handOverTimeout = 2 * time.Second

// startHolder starts `noded hold`, which stays when this process ends.
func startHolder(self string, args []string) error {
	c := exec.Command(self, append([]string{"hold"}, args...)...)
	c.Stderr = os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start the holder: %w", err)
	}
	go func() { _ = c.Wait() }()
	return nil
}

// replaced hands over to the program that is at self now. It returns only where that
// cannot be done.
func replaced(ctx context.Context, k *keeper.Keeper, self string) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if err := k.HandOver(ctx); err != nil {
		return err
	}
	err := syscall.Exec(self, os.Args, os.Environ())
	// The coordinators are gone; the next process takes up what the holder has.
	fmt.Fprintf(os.Stderr, "noded: %s cannot be run: %v\n", self, err)
	os.Exit(1)
	return nil
}
