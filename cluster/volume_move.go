package cluster

import (
	"fmt"
	"maps"
	"slices"
	"time"

	pb "quorate/cluster/clusterpb"
)

// A planned move of a volume's coordinator: VolumeMove notes who is to have it; the
// coordinator lets go and says so (VolumeReleased), which makes the other its owner
// in the same command. Where the other goes down meanwhile the move is off, and the
// epoch is raised all the same: a word that was given for the old one, and is still
// on its way, counts no more.

func (d *Database) volumeMove(c *pb.Command, k *pb.VolumeMove) *pb.Result {
	v := d.s.Volumes[k.Name]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case v.Directory != "":
		return refuseDirectory(v)
	case d.s.Nodes[k.To] == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.To)
	case k.Epoch != 0 && k.Epoch != v.Epoch:
		return stale("volume "+v.Name, v.Epoch, k.Epoch)
	case v.Coordinator == k.To && v.MoveTo == 0:
		return refuse(pb.Code_CODE_REFUSED, "%s coordinates %s already", d.nodeName(k.To), v.Name)
	case v.MoveTo == k.To:
		return ok()
	case wantsClosed(v):
		return refuse(pb.Code_CODE_REFUSED, "%s is in maintenance, or is being removed: nobody coordinates it", v.Name)
	case v.MoveTo != 0:
		return refuse(pb.Code_CODE_REFUSED, "%s is on its way to %s: wait until it is there", v.Name, d.nodeName(v.MoveTo))
	case !d.up(v.Coordinator):
		return refuse(pb.Code_CODE_REFUSED, "%s, which coordinates %s, is not up: the cluster gives the volume to another as soon as it is fenced", d.nodeName(v.Coordinator), v.Name)
	case !d.up(k.To) || d.s.Nodes[k.To].Leaving:
		return refuse(pb.Code_CODE_REFUSED, "%s is not up, or leaves, and cannot coordinate %s", d.nodeName(k.To), v.Name)
	case !reaches(v.Status[k.To]):
		return refuse(pb.Code_CODE_REFUSED, "%s has lost its path to %s and cannot coordinate it", d.nodeName(k.To), v.Name)
	}
	if res := d.refuseDraining(k.To); res != nil {
		return res
	}
	v.MoveTo = k.To
	d.event(c, Info, "volume-move", v.Name, "%s is to be coordinated by %s instead of %s: %s", v.Name, d.nodeName(k.To), d.nodeName(v.Coordinator), k.Reason)
	return ok()
}

func (d *Database) volumeReleased(c *pb.Command, k *pb.VolumeReleased) *pb.Result {
	v, n := d.s.Volumes[k.Name], d.s.Nodes[k.Node]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case n == nil || n.Epoch != k.NodeEpoch || n.State != pb.NodeState_NODE_STATE_UP:
		return refuse(pb.Code_CODE_STALE, "the word of node %d is of epoch %d, which is over", k.Node, k.NodeEpoch)
	case v.Epoch != k.Epoch || v.Coordinator != k.Node:
		return stale("volume "+v.Name, v.Epoch, k.Epoch)
	case v.MoveTo == 0:
		return refuse(pb.Code_CODE_REFUSED, "%s is not on its way to anybody", v.Name)
	}
	d.movedVolume(v.Name, n.Id, v.MoveTo)
	v.Coordinator, v.MoveTo = v.MoveTo, 0
	v.Epoch++
	if len(k.Session) > 0 {
		v.Unsettled, v.Session = n.Id, k.Session
	}
	d.event(c, Info, "volume-moved", v.Name, "%s is coordinated by %s now: %s has let go", v.Name, d.nodeName(v.Coordinator), n.Name)
	return ok()
}

// callOffMoves ends the moves of volumes to a node that is not there any more.
func (d *Database) callOffMoves(c *pb.Command, node uint64) {
	for _, name := range slices.Sorted(maps.Keys(d.s.Volumes)) {
		if v := d.s.Volumes[name]; v.MoveTo == node {
			v.MoveTo = 0
			v.Epoch++
			d.event(c, Warning, "volume-stays", name, "%s stays with %s: %s went down before it had it", name, d.nodeName(v.Coordinator), d.nodeName(node))
		}
	}
}

// handOver moves a volume whose coordinator has been without a path to it for half the
// time after which the node is given up: it goes on through the next one.
func (c *Controller) handOver(in Input) []*pb.Command {
	if len(c.pathLost) == 0 {
		return nil
	}
	var out []*pb.Command
	have := coordinated(in.State)
	for _, name := range slices.Sorted(maps.Keys(in.State.Volumes)) {
		v := in.State.Volumes[name]
		since, lost := c.pathLost[v.Coordinator]
		if v.MoveTo != 0 || wantsClosed(v) || !lost || in.Now.Sub(since) < c.profile.PathLost/2 || v.Status[v.Coordinator].GetState() != PathLost {
			continue
		}
		if to := c.coordinator(in, v, have); to != 0 && v.Status[to].GetState() == "direct" {
			out = append(out, &pb.Command{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{
				Name: name, To: to, Epoch: v.Epoch, Reason: in.State.Nodes[v.Coordinator].Name + " has lost its path to it",
			}}})
		}
	}
	return out
}

// coordinated counts the volumes of each node.
func coordinated(s *pb.State) map[uint64]int {
	have := map[uint64]int{}
	for _, v := range s.Volumes {
		have[v.Coordinator]++
	}
	return have
}

// spreadAfter is for how long a node must be up before volumes are moved to it to
// spread them: one that comes and goes should not take them along.
const spreadAfter = time.Minute

// spread moves the coordination of a volume from the node that has most to the one
// that has fewest, one at a time, until no node has two more than another.
func (c *Controller) spread(in Input) []*pb.Command {
	count := map[uint64]int{}
	for id, n := range in.State.Nodes {
		since := c.up[id].since
		if takes(n) && in.Now.Sub(later(since, in.LeaderSince)) >= spreadAfter {
			count[id] = 0
		}
	}
	for _, v := range in.State.Volumes {
		if wantsClosed(v) || v.Directory != "" {
			continue
		}
		if v.MoveTo != 0 || v.ReadyEpoch != v.Epoch {
			return nil // one thing after the other
		}
		if _, ok := count[v.Coordinator]; ok {
			count[v.Coordinator]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in.State.Volumes)) {
		v := in.State.Volumes[name]
		from, known := count[v.Coordinator]
		if !known || wantsClosed(v) {
			continue
		}
		for _, to := range slices.Sorted(maps.Keys(count)) {
			if from-count[to] >= 2 && v.Status[to].GetState() == "direct" && fewest(count, to) {
				return []*pb.Command{{Kind: &pb.Command_VolumeMove{VolumeMove: &pb.VolumeMove{
					Name: name, To: to, Epoch: v.Epoch,
					Reason: fmt.Sprintf("%s coordinates %d volumes, %s %d", in.State.Nodes[v.Coordinator].Name, from, in.State.Nodes[to].Name, count[to]),
				}}}}
			}
		}
	}
	return nil
}

func fewest(count map[uint64]int, id uint64) bool {
	for _, n := range count {
		if n < count[id] {
			return false
		}
	}
	return true
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
