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

// delay is how long a message is under way, or negative where it is lost.
func (t *network) delay(link [2]uint64) time.Duration {
	e := t.w.e
	if t.cut[link] || t.loss > 0 && e.chance(t.loss) {
		return -1
	}
	d := e.between(80*time.Microsecond, 400*time.Microsecond) + t.slow[link]
	if e.chance(300) { // others overtake it
		d += e.between(0, 60*time.Millisecond)
	}
	return d
}

// carry takes a message over this network, if it is not cut meanwhile.
func (t *network) carry(link [2]uint64, d time.Duration, arrive func()) {
	t.w.e.after(d, nil, func() {
		if !t.cut[link] {
			arrive()
		}
	})
}

// send takes a message over all networks, as the product does with small ones: the
// first copy arrives, and now and then another.
func (w *world) send(from, to uint64, arrive func()) {
	if from == to {
		w.e.after(w.e.between(20*time.Microsecond, 60*time.Microsecond), nil, arrive)
		return
	}
	link := [2]uint64{from, to}
	var first *network
	best := time.Duration(-1)
	for _, t := range w.nets {
		if d := t.delay(link); d >= 0 && (best < 0 || d < best) {
			first, best = t, d
		}
	}
	if best < 0 {
		return
	}
	first.carry(link, best, arrive)
	if w.e.chance(200) {
		first.carry(link, best+w.e.between(0, 20*time.Millisecond), arrive)
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
