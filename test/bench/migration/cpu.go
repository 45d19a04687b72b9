package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"quorate/resources/vm"
)

// tick is the unit of /proc/PID/stat, USER_HZ, which is 100 on all of Linux.
const tick = time.Second / 100

// used is the processor time of a machine's process but for what its guest took: its
// virtual processors' threads are left out.
func used(ctx context.Context, m *vm.Machine) (time.Duration, error) {
	mon, err := m.Monitor(ctx)
	if err != nil {
		return 0, err
	}
	var cpus []struct {
		Thread int `json:"thread-id"`
	}
	if err := mon.Execute(ctx, "query-cpus-fast", nil, &cpus); err != nil {
		return 0, err
	}
	total, err := cpuTime(fmt.Sprintf("/proc/%d/stat", m.PID()))
	for _, c := range cpus {
		t, e := cpuTime(fmt.Sprintf("/proc/%d/task/%d/stat", m.PID(), c.Thread))
		total, err = total-t, errors.Join(err, e)
	}
	return total, err
}

// cpuTime reads utime and stime (proc_pid_stat(5)).
func cpuTime(path string) (time.Duration, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(f) < 13 {
		return 0, fmt.Errorf("%s: %q", path, text)
	}
	user, err := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err, err2)
}

// own is the processor time of this process, which the agents are part of.
func own() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
