package cluster

import (
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
)

const (
	// maxStarts is how many machines start on a node at once.
	maxStarts = 8
	// startPatience is for how long others wait for a machine that starts, by the node's
	// own clock.
	startPatience = 30 * time.Second
)

// starts lets a node's machines start in the order of their priorities, so many at once.
// It meets them in turn.
type starts struct {
	under  int // way
	urgent int // is the one of these that is least so
}

// admit is what a node does with a group, without a start that has to wait.
func (w *starts) admit(l Local, g *pb.Group, do []Action) []Action {
	i := slices.IndexFunc(do, func(a Action) bool { _, is := a.(StartMachine); return is })
	switch {
	case i >= 0 && w.under > 0 && (w.under >= maxStarts || w.urgent < urgency(g)):
		return slices.Delete(do, i, i+1)
	case i >= 0, startsNow(l, g):
		w.under++
		w.urgent = urgency(g)
	}
	return do
}

// startsNow tells whether a machine of this node is starting, and not for too long.
func startsNow(l Local, g *pb.Group) bool {
	st := g.Status
	since := l.WallMS - st.GetAtMs()
	return g.Owner == l.Node && st.GetState() == pb.GroupState_GROUP_STATE_STARTING && st.Epoch == g.Epoch && st.Node == l.Node &&
		since >= 0 && since < startPatience.Milliseconds()
}
