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
	last := k.o.Clock()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := k.o.Clock()
		elapsed := min(now-last, 2*probeEvery)
		last = now
		k.mu.Lock()
		k.probeDirectories(ctx)
		for _, a := range k.volumes {
			if a.probing.CompareAndSwap(false, true) {
				k.work.Go(func() {
					defer a.probing.Store(false)
					ctx, cancel := context.WithTimeout(ctx, probeLimit)
					defer cancel()
					a.listen(a.gate.Check(ctx), elapsed) // the gate remembers how it ended too
				})
			}
			if a.c.Status().Access != csv.Direct || a.gate.lost.Load() {
				a.touch(&k.work)
			}
		}
		k.mu.Unlock()
	}
}

// listen counts for how long nodes have answered the coordinator, if it is here, nothing:
// while the LUN answers this node, that is, and the coordinator is not in the midst of
// an I/O.
func (a *attached) listen(lun error, elapsed time.Duration) {
	c := a.coordinating()
	var owing map[csv.NodeID]uint64
	ok := false
	if c != nil && lun == nil {
		owing, ok = c.Owing()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case c == nil || lun != nil:
		a.silence = csv.Silence{}
	case ok:
		a.silence.Tick(owing, elapsed)
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
