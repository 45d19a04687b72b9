package keeper

import (
	"context"
	"sync"
	"time"

	"quorate/csv"
)

const (
	// probeEvery is how often each volume's LUN is looked at, whether or not
	// anything is read or written.
	probeEvery = time.Second
	// probeLimit bounds one look.
	probeLimit = 5 * time.Second
)

// probe looks after every attached volume's key and path: a node that writes
// nothing, or whose writes all wait for a coordinator, would else not notice that
// it has lost them.
func (k *Keeper) probe(ctx context.Context) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		k.mu.Lock()
		for _, a := range k.volumes {
			if a.probing.CompareAndSwap(false, true) {
				k.work.Go(func() {
					defer a.probing.Store(false)
					ctx, cancel := context.WithTimeout(ctx, probeLimit)
					defer cancel()
					_ = a.gate.Check(ctx) // the gate remembers how it ended
				})
			}
			if a.c.Status().Access != csv.Direct || a.gate.lost.Load() {
				a.touch(&k.work)
			}
		}
		k.mu.Unlock()
	}
}

// touch makes the client read something, so that it finds out how the LUN is reached,
// though no machine reads or writes.
func (a *attached) touch(work *sync.WaitGroup) {
	if a.touching.CompareAndSwap(false, true) {
		work.Go(func() {
			defer a.touching.Store(false)
			_ = a.c.Touch()
		})
	}
}
