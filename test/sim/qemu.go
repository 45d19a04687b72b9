package sim

import (
	"time"

	"quorate/migration"
)

// transfer is QEMU's own migration on one end, as it was found to behave: see
// migration/DESIGN.md.
type transfer struct {
	state migration.Transfer
	run   migration.Run // while it does not run
	relay *relay
	// settling: it pauses once its last write has been answered.
	settling bool
}

// runState is what QEMU says that the processors do.
func (m *machine) runState() migration.Run {
	if m.running {
		return migration.Running
	}
	return m.mig.run
}

// relay is the stream between two QEMUs, through both clusterds.
type relay struct {
	w          *world
	src, dst   *machine
	from, to   *clusterd
	pauseFirst bool
	open       bool
	goOn       bool // the source was told to go on with its last part
	stuck      time.Duration
}

// relayStep is how often a stream is looked at; relayPatience for how long one
// without progress is kept.
const (
	relayStep     = 40 * time.Millisecond
	relayPatience = 5 * time.Second
)

// connect begins a transfer.
func connect(w *world, src, dst *machine, from, to *clusterd, pauseFirst bool) *relay {
	r := &relay{w: w, src: src, dst: dst, from: from, to: to, pauseFirst: pauseFirst, open: true}
	src.mig.relay, dst.mig.relay = r, r
	src.mig.state, dst.mig.state = migration.TransferActive, migration.TransferActive
	w.e.after(w.e.between(100*time.Millisecond, 5*time.Second), nil, r.step)
	return r
}

// step moves the transfer on, where everything that it passes through goes on.
func (r *relay) step() {
	if !r.open {
		return
	}
	if r.from.p.dead || r.to.p.dead {
		r.cut()
		return
	}
	r.w.e.after(relayStep, nil, r.step)
	if r.src.p.still || r.dst.p.still || r.from.p.still || r.to.p.still || !r.w.connected(r.from.n.id, r.to.n.id) {
		if r.stuck += relayStep; r.stuck > relayPatience {
			r.cut()
		}
		return
	}
	r.stuck = 0
	src, dst := r.src, r.dst
	switch {
	case src.mig.state == migration.TransferActive:
		// It pauses only when its disk has answered.
		src.mig.settling = true
		if src.busy {
			return
		}
		src.mig.settling = false
		src.pause("")
		src.mig.state, src.mig.run = migration.TransferWaiting, migration.Finishing
	case src.mig.state == migration.TransferWaiting && r.goOn:
		src.mig.state = migration.TransferDevice
	case src.mig.state == migration.TransferDevice && dst.mig.state == migration.TransferActive:
		dst.mig.state, dst.mig.run, dst.stint = migration.TransferCompleted, migration.Paused, src.stint
	case src.mig.state == migration.TransferDevice:
		src.mig.state, src.mig.run = migration.TransferCompleted, migration.Sent
	}
}

func inFlight(t migration.Transfer) bool {
	return t == migration.TransferActive || t == migration.TransferWaiting || t == migration.TransferDevice
}

// cut breaks the stream: both QEMUs find out when they run, and the source resumes
// by itself.
func (r *relay) cut() {
	if !r.open {
		return
	}
	r.open = false
	r.w.e.after(r.w.e.between(2*time.Millisecond, 15*time.Millisecond), r.src.p, func() {
		m := r.src
		m.mig.settling = false
		if !inFlight(m.mig.state) {
			return
		}
		m.mig.state = migration.TransferFailed
		switch {
		case !r.pauseFirst:
			m.run("its stream broke")
		case m.mig.run == migration.Finishing:
			m.mig.run = migration.Sent
		}
	})
	r.w.e.after(time.Millisecond, r.dst.p, func() {
		if inFlight(r.dst.mig.state) {
			r.dst.mig.state = migration.TransferFailed
		}
	})
}

// broken is what the end of a process does to its stream.
func (m *machine) broken() {
	if m.mig.relay != nil {
		m.mig.relay.cut()
	}
}

// connected tells whether two nodes reach each other over some network.
func (w *world) connected(a, b uint64) bool {
	for _, t := range w.nets {
		if !t.cut[[2]uint64{a, b}] && !t.cut[[2]uint64{b, a}] {
			return true
		}
	}
	return false
}
