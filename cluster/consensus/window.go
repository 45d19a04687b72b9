package consensus

// windowSize is of how many of a peer's latest messages it is known which came.
const windowSize = 1024

// window tells what a peer sent over several paths apart from what is new. The
// zero value has seen nothing. It is not safe for concurrent use.
type window struct {
	session uint64 // the peer's, new with each of its starts
	highest uint64
	seen    [windowSize / 64]uint64 // a bit for each number, modulo windowSize
}

// first tells whether a message comes for the first time. What is older than the
// window counts as new: raft does not mind to hear a thing twice. So does what a
// version sends that does not number its messages.
func (w *window) first(session, number uint64) bool {
	if number == 0 {
		return true
	}
	if session != w.session || number >= w.highest+windowSize {
		*w = window{session: session, highest: number}
	} else {
		for ; w.highest < number; w.highest++ {
			w.set(w.highest+1, false)
		}
		if number+windowSize <= w.highest {
			return true
		}
		if w.seen[number%windowSize/64]&(1<<(number%64)) != 0 {
			return false
		}
	}
	w.set(number, true)
	return true
}

func (w *window) set(number uint64, on bool) {
	bit := uint64(1) << (number % 64)
	if on {
		w.seen[number%windowSize/64] |= bit
	} else {
		w.seen[number%windowSize/64] &^= bit
	}
}
