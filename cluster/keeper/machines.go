package keeper

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// lookLimit is for how long all processes of the node are looked at.
const lookLimit = 2 * time.Second

// qemuName is how the names of QEMU's programs begin.
const qemuName = "qemu-system-"

// killMachines sends SIGKILL to every QEMU of this node's machines, which are
// known by the directory that their command lines name, and returns how many.
// Processes of other PID namespaces are not seen. One that the kernel does not let
// be looked at, for it waits for a page of a file that is not to be had, keeps the others
// from nothing: it is killed when it can be.
func killMachines(runDir string) int {
	mark := []byte(filepath.Join(runDir, "machines") + "/")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	var killed atomic.Int32
	looked := make(chan struct{}, len(entries))
	n := 0
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The name first: the rest of /proc waits for a process that is about to run
		// another program and closes a file on a mount that nobody serves.
		if name, err := os.ReadFile(filepath.Join("/proc", e.Name(), "comm")); err != nil || !bytes.HasPrefix(name, []byte(qemuName)) {
			continue
		}
		n++
		go func() {
			if killIfMachine(pid, mark) {
				killed.Add(1)
			}
			looked <- struct{}{}
		}()
	}
	limit := time.After(lookLimit)
	for range n {
		select {
		case <-looked:
		case <-limit:
			return int(killed.Load())
		}
	}
	return int(killed.Load())
}

// killIfMachine kills a process if it is a QEMU whose command line bears the mark.
func killIfMachine(pid int, mark []byte) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	if err != nil || !strings.HasPrefix(filepath.Base(exe), qemuName) {
		return false
	}
	line, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	return err == nil && bytes.Contains(line, mark) && syscall.Kill(pid, syscall.SIGKILL) == nil
}
