package sim

import (
	"fmt"
	"time"

	"github.com/anishathalye/porcupine"

	pb "quorate/cluster/clusterpb"
)

// historyCheck: all histories of what machines should be, as clients see them, are
// linearizable, so that what was acknowledged is read afterwards.
type historyCheck struct {
	w   *world
	ops []porcupine.Operation
}

// wish is an operation on what a group should be.
type wish struct {
	group string
	in    uint64 // the incarnation of the cluster that it was asked in
	write bool
	value pb.Desire
}

// maxOps bounds a history for one judgement.
const maxOps = 4000

// never is when an operation returned of which nobody knows what became of it.
const never = int64(1) << 62

func (c *historyCheck) begin(client int, in wish) int {
	if len(c.ops) >= maxOps {
		return -1
	}
	c.ops = append(c.ops, porcupine.Operation{ClientId: client, Input: in, Call: int64(c.w.e.now), Return: never})
	return len(c.ops) - 1
}

// end takes in how an operation ended. One that failed for certain was never made.
func (c *historyCheck) end(i int, value pb.Desire, failed bool) {
	if i < 0 {
		return
	}
	c.ops[i].Return, c.ops[i].Output = int64(c.w.e.now), value
	if failed {
		c.ops[i].Input = nil
	}
}

// begins takes in what a new incarnation of the cluster begins with.
func (c *historyCheck) begins(s *pb.State) {
	for _, name := range c.w.groups {
		if g := s.Groups[name]; g != nil {
			in := s.Cluster.Incarnation
			c.end(c.begin(clients+1+len(c.w.incarnations), wish{group: name, in: in, write: true, value: g.Desire}), g.Desire, false)
		}
	}
}

var model = porcupine.Model{
	Partition: func(h []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, op := range h {
			k := fmt.Sprintf("%d/%s", op.Input.(wish).in, op.Input.(wish).group)
			by[k] = append(by[k], op)
		}
		var out [][]porcupine.Operation
		for _, k := range sorted(by) {
			out = append(out, by[k])
		}
		return out
	},
	Init: func() any { return pb.Desire_DESIRE_UNSPECIFIED },
	Step: func(state, input, output any) (bool, any) {
		in := input.(wish)
		if in.write {
			return true, in.value
		}
		// A read that was not answered may have seen anything.
		return output == nil || output.(pb.Desire) == state.(pb.Desire), state
	},
}

func (c *historyCheck) judge() {
	var h []porcupine.Operation
	for _, op := range c.ops {
		if op.Input == nil || op.Output == nil && !op.Input.(wish).write {
			continue
		}
		h = append(h, op)
	}
	if res := porcupine.CheckOperationsTimeout(model, h, 20*time.Second); res == porcupine.Illegal {
		c.w.fail("history", "the history of %d operations is not linearizable", len(h))
	}
}
