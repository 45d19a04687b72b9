package cluster

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

// A node that lives and renews its lease may still answer a volume's coordinator
// nothing: its client hangs, or the way between the two is cut while others are not.
// Everybody who needs what it holds waits for it then. Its coordinator counts for how
// long, while the LUN and itself are well, and says who has gone too far; the leader takes
// that node down, which fences it: nothing less proves that it acts no more upon what
// it holds. A node whose key is gone from one volume gives up all that it has, so it is
// the node that goes down and not its use of that volume.

// holdingUp are the nodes that have held up a volume for too long, where it is
// coordinated here.
func holdingUp(s *pb.State, v *pb.Volume, l Local, have LocalVolume) []*pb.HeldUp {
	if FormatOf(s) < formatOfFree || !have.Coordinating || v.Coordinator != l.Node {
		return nil
	}
	p, err := ProfileNamed(s.Cluster.Sensitivity)
	if err != nil {
		p = profiles[0]
	}
	limit := TimingsOf(s, p).Long.HeldUp()
	var out []*pb.HeldUp
	for _, id := range slices.Sorted(maps.Keys(have.Owing)) {
		if n := s.Nodes[id]; n.GetState() == pb.NodeState_NODE_STATE_UP && have.Owing[id] >= limit {
			out = append(out, &pb.HeldUp{Node: id, NodeEpoch: n.Epoch})
		}
	}
	return out
}

func sameHeldUp(a, b []*pb.HeldUp) bool {
	return slices.EqualFunc(a, b, func(x, y *pb.HeldUp) bool { return proto.Equal(x, y) })
}

// holdsUp says that a node holds a volume up. Where a coordinator hears nothing of most
// of the others, though there are several, it is the coordinator that does.
func (c *Controller) holdsUp(in Input, n *pb.Node) string {
	var accused []string // volumes that anybody holds up: few, if any
	for name, v := range in.State.Volumes {
		if len(v.Status[v.Coordinator].GetHeldUp()) > 0 {
			accused = append(accused, name)
		}
	}
	slices.Sort(accused)
	for _, name := range accused {
		v := in.State.Volumes[name]
		at := in.State.Nodes[v.Coordinator]
		st := v.Status[v.Coordinator]
		if at.GetState() != pb.NodeState_NODE_STATE_UP || st.GetNodeEpoch() != at.Epoch || st.State == PathLost || wantsClosed(v) {
			continue
		}
		silent, others, itself := 0, 0, false
		holds := func(n *pb.Node) bool {
			return slices.ContainsFunc(st.HeldUp, func(h *pb.HeldUp) bool { return h.Node == n.Id && h.NodeEpoch == n.Epoch })
		}
		for id, other := range in.State.Nodes {
			if id == at.Id || other.State != pb.NodeState_NODE_STATE_UP {
				continue
			}
			others++
			if holds(other) {
				silent++
				itself = itself || id == n.Id
			}
		}
		limit := c.profile.HeldUp().Seconds()
		switch blame := silent >= 2 && 2*silent > others; {
		case n.Id == at.Id && holds(at):
			return fmt.Sprintf("it coordinates %s, and has not answered itself for %g s, though the LUN answers", name, limit)
		case blame && n.Id == at.Id:
			return fmt.Sprintf("as the coordinator of %s it hears nothing of %d of the %d other nodes for %g s, though they are up", name, silent, others, limit)
		case !blame && itself && v.Status[n.Id].GetState() != PathLost:
			return fmt.Sprintf("it holds %s up: it has not answered %s, which coordinates it, for %g s, though it renews its lease and the LUN answers", name, at.Name, limit)
		}
	}
	return ""
}
