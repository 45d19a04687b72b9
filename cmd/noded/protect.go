package main

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

const (
	highest     = -20 // nice
	neverKilled = "-1000"
	rtPriority  = 1
	mclOnFault  = 4 // MCL_ONFAULT: lock what is used, not what is reserved
)

// protect keeps noded going when the node is short of memory or of time, as far
// as it is allowed to.
func protect(realtime bool, log *zap.Logger) {
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | mclOnFault); err != nil {
		log.Info("memory is not locked", zap.Error(err))
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte(neverKilled), 0); err != nil {
		log.Info("not exempt from the kernel's out-of-memory killer", zap.Error(err))
	}
	raise := func(tid int) error {
		if !realtime {
			return unix.Setpriority(unix.PRIO_PROCESS, tid, highest)
		}
		return unix.SchedSetAttr(tid, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_RR, Priority: rtPriority}, 0)
	}
	done := map[string]bool{}
	for more := true; more; { // a thread inherits it, unless it came meanwhile
		more = false
		tasks, err := filepath.Glob("/proc/self/task/*")
		if err != nil {
			return
		}
		for _, t := range tasks {
			if done[t] {
				continue
			}
			done[t], more = true, true
			tid, err := strconv.Atoi(filepath.Base(t))
			if err == nil {
				err = raise(tid)
			}
			if err != nil && !errors.Is(err, unix.ESRCH) {
				log.Info("priority is not raised", zap.Error(err))
				return
			}
		}
	}
}
