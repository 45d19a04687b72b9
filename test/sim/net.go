package sim

import "time"

// network is one of the networks between the nodes.
type network struct {
	w    *world
	cut  map[[2]uint64]bool          // from, to
	slow map[[2]uint64]time.Duration // added to each message
	loss int                         // one message in so many is lost; 0: none
}

func newNetwork(w *world) *network {
	return &network{w: w, cut: map[[2]uint64]bool{}, slow: map[[2]uint64]time.Duration{}}
}

// carry takes a message from one node to another, or loses it, doubles it, or has
// others overtake it.
func (t *network) carry(from, to uint64, arrive func()) {
	e := t.w.e
	link := [2]uint64{from, to}
	if from == to {
		e.after(e.between(20*time.Microsecond, 60*time.Microsecond), nil, arrive)
		return
	}
	if t.cut[link] || t.loss > 0 && e.chance(t.loss) {
		return
	}
	d := e.between(80*time.Microsecond, 400*time.Microsecond) + t.slow[link]
	if e.chance(300) {
		d += e.between(0, 60*time.Millisecond)
	}
	// What is cut while it is under way does not arrive.
	deliver := func() {
		if !t.cut[link] {
			arrive()
		}
	}
	e.after(d, nil, deliver)
	if e.chance(400) {
		e.after(d+e.between(0, 20*time.Millisecond), nil, deliver)
	}
}

// send takes a message over all networks, as the product does with small ones.
func (w *world) send(from, to uint64, arrive func()) {
	for _, t := range w.nets {
		t.carry(from, to, arrive)
	}
}

// ask sends a question and its answer: handle runs at the other node and returns
// what takes the answer in at this one, or nil to stay silent.
func (w *world) ask(from, to uint64, handle func() func()) {
	asked, answered := false, false
	w.send(from, to, func() {
		if asked { // TCP delivers once
			return
		}
		asked = true
		take := handle()
		if take == nil {
			return
		}
		w.send(to, from, func() {
			if !answered {
				answered = true
				take()
			}
		})
	})
}
