package csv

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestLeasesExclude: whatever happens in whatever order, a client never believes
// that it has an exclusive lease while another believes that it has any, with
// grants and settlements on their way in both directions.
func TestLeasesExclude(t *testing.T) {
	for seed := range uint64(300) {
		w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), table: NewLeases()}
		for n := range w.clients {
			w.clients[n].id = NodeID(n + 1)
		}
		for step := range 400 {
			w.step()
			w.check(fmt.Sprintf("seed %d step %d", seed, step))
		}
	}
}

// world is a coordinator and clients with messages under way, for one inode.
type world struct {
	t       *testing.T
	r       *rand.Rand
	table   *Leases
	clients [3]believer
}

// believer is a client: what it believes, and what is on its way to and from it.
type believer struct {
	id   NodeID
	mode Mode
	seen uint64
	wish Mode // asked for, not answered yet
	in   []message
	out  []message
}

type message struct {
	grant  uint64 // of mode
	recall bool   // down to mode
	mode   Mode
	seen   uint64
}

const theInode = 7

func (w *world) step() {
	c := &w.clients[w.r.IntN(len(w.clients))]
	switch w.r.IntN(4) {
	case 0:
		if c.wish == None {
			c.wish = Mode(1 + w.r.IntN(2))
		}
	case 1: // the coordinator looks at a wish
		if c.wish == None {
			return
		}
		ask, ok := w.table.Blockers(c.id, theInode, c.wish)
		for _, a := range ask {
			h := &w.clients[a.Holder-1]
			h.in = append(h.in, message{recall: true, mode: a.Keep})
		}
		if ok {
			n := w.table.Grant(c.id, theInode, c.wish)
			c.in = append(c.in, message{grant: n, mode: w.table.Mode(c.id, theInode)})
			c.wish = None
		}
	case 2: // a message reaches the client
		if len(c.in) == 0 {
			return
		}
		m := c.in[0]
		c.in = c.in[1:]
		if m.recall {
			c.mode = min(c.mode, m.mode)
			c.out = append(c.out, message{mode: c.mode, seen: c.seen})
		} else {
			c.mode, c.seen = m.mode, m.grant
		}
	case 3: // an answer reaches the coordinator
		if len(c.out) > 0 {
			w.table.Settle(c.id, theInode, c.out[0].mode, c.out[0].seen)
			c.out = c.out[1:]
		}
	}
}

func (w *world) check(when string) {
	for i, a := range w.clients {
		for j, b := range w.clients {
			if i != j && a.mode == Exclusive && b.mode != None {
				w.t.Fatalf("%s: node %d has %d, node %d has %d", when, a.id, a.mode, b.id, b.mode)
			}
		}
	}
}
