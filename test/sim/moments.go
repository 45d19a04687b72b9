package sim

import "time"

// moment is when a fault does most harm: one that waits for it strikes the node
// where it comes next.
type moment string

// The moments, worded as a story tells them.
const (
	whileFlushing      moment = "while its log is flushed"
	whileCompacting    moment = "while its log turns to the other area"
	afterAcknowledging moment = "after it has acknowledged an entry"
	afterTakeover      moment = "after it has taken the witness"
	atSwitch           moment = "as it proposes that a machine is another's"
	whenSaved          moment = "as a machine's state is written"
	whenRestored       moment = "as a machine's state is loaded"
	whenLoaded         moment = "as a machine has come in whole"
)

// moment tells that one has come on a node. A fault that waits for it strikes
// within the time that it may take.
func (w *world) moment(m moment, n *node, within time.Duration) {
	waiting := w.faults.armed[m]
	if len(waiting) == 0 {
		return
	}
	i := waiting[0]
	w.faults.armed[m] = waiting[1:]
	x := w.faults.plan[i]
	w.e.after(w.e.between(0, within), nil, func() {
		if !w.faults.calmed {
			w.faults.strike(i, x, n)
		}
	})
}
