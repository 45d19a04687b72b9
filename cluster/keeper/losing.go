package keeper

import (
	"sync"

	"go.uber.org/zap"
)

// lose is what happens when the lease has run out, or another node has removed
// this node's key. Its order matters: see the package's documentation.
func (k *Keeper) lose(why string) {
	k.losing.Lock()
	volumes := k.stopAll(why)
	k.losing.Unlock()
	// The paths are free for the next epoch only when these mounts are gone.
	k.attaching.Lock()
	defer k.attaching.Unlock()
	for _, a := range volumes {
		a.gone()
	}
}

// stopAll is lose but for the mounts, which go last. losing is held.
func (k *Keeper) stopAll(why string) map[string]*attached {
	k.mu.Lock()
	if k.state != active {
		k.mu.Unlock()
		return nil
	}
	volumes := k.volumes
	k.volumes = map[string]*attached{}
	for _, a := range volumes {
		a.gate.close()
	}
	k.state, k.reason = fenced, why
	epoch := k.endEpochLocked().NodeEpoch
	k.changedLocked()
	k.mu.Unlock()
	n := k.o.Kill()
	if err := k.dropAddresses(); err != nil {
		k.log.Error("an address of the cluster is left behind", zap.Error(err))
	}
	k.log.Error("fenced: all I/O is stopped and the machines are killed", zap.String("reason", why),
		zap.Uint64("epoch", epoch), zap.Int("machines", n), zap.Int("volumes", len(volumes)))
	k.dropDirectories()
	k.endAll(volumes)
	k.o.Kill() // one that was being started meanwhile
	if err := k.remember(func(*config) {}); err != nil {
		k.log.Error("the lost epoch was not recorded", zap.Error(err))
	}
	return volumes
}

// endAll lets what is under way on the LUNs of shut gates end, for drainLimit, and
// then answers whoever still waits. What did not end is remembered.
func (k *Keeper) endAll(volumes map[string]*attached) {
	var work sync.WaitGroup
	for _, a := range volumes {
		work.Go(func() {
			clean := a.gate.drained(drainLimit)
			_ = a.gate.Close()
			a.abort()
			if !clean {
				k.mu.Lock()
				k.unclean[a.name] = a
				k.mu.Unlock()
			} else if err := k.forget(a.name); err != nil {
				a.log.Warn("that nothing is under way was not recorded", zap.Error(err))
			}
		})
	}
	work.Wait()
}
