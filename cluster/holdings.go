package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	pb "quorate/cluster/clusterpb"
)

// Holdings are a database's groups by what is asked of them again and again: which of
// them a node has, what these need, and which may have to go elsewhere. Of a cluster's
// thousands few change at a time, so a Database follows command by command; they need
// not be looked at when nothing has happened.
type Holdings struct {
	counted map[string]entry // by name
	nodes   map[uint64]*holding
	// suspect are those that another node may have to take though their owner is up,
	// moving those that have a migration, away those that are to go back where they were.
	suspect, moving, away map[string]bool
}

// entry is a group as it was counted.
type entry struct {
	g                             *pb.Group
	owner, from, memory           uint64
	volume                        string
	wanted, suspect, moving, away bool
}

// holding is what one node has.
type holding struct {
	// groups are the machines that it owns, or that move away from it, by their names.
	groups []*pb.Group
	// memory, in MiB, and wanted are of its groups that should run, the cluster's among
	// them; volumes counts those on each volume.
	memory  uint64
	wanted  int
	volumes map[string]int
}

// HoldingsOf looks at all groups.
func HoldingsOf(s *pb.State) *Holdings {
	h := &Holdings{counted: make(map[string]entry, len(s.Groups)), nodes: map[uint64]*holding{}, suspect: map[string]bool{}, moving: map[string]bool{}, away: map[string]bool{}}
	for name, g := range s.Groups {
		e := entryOf(g)
		h.counted[name] = e
		h.count(name, e, 1)
		for _, id := range e.keepers() {
			n := h.node(id)
			n.groups = append(n.groups, g)
		}
	}
	for _, n := range h.nodes {
		slices.SortFunc(n.groups, byName)
	}
	return h
}

func byName(a, b *pb.Group) int { return cmp.Compare(a.Name, b.Name) }

func entryOf(g *pb.Group) entry {
	return entry{
		g: g, owner: g.Owner, from: g.Migration.GetFrom(), memory: g.MemoryMib, volume: g.Volume,
		wanted: g.Desire == pb.Desire_DESIRE_STARTED, suspect: g.Type == TypeCluster || g.Restarts >= maxRestarts || toStart(g), moving: g.Migration != nil, away: goesBack(g),
	}
}

// keepers are the nodes in whose list a machine is.
func (e entry) keepers() []uint64 {
	switch {
	case e.g.Type == TypeCluster:
		return nil
	case e.from != 0 && e.from != e.owner:
		return []uint64{e.owner, e.from}
	}
	return []uint64{e.owner}
}

func (h *Holdings) node(id uint64) *holding {
	n := h.nodes[id]
	if n == nil {
		n = &holding{volumes: map[string]int{}}
		h.nodes[id] = n
	}
	return n
}

// count adds an entry, or takes it away where by is -1.
func (h *Holdings) count(name string, e entry, by int) {
	mark := func(set map[string]bool, on bool) {
		if on && by > 0 {
			set[name] = true
		} else {
			delete(set, name)
		}
	}
	mark(h.suspect, e.suspect)
	mark(h.moving, e.moving)
	mark(h.away, e.away)
	if !e.wanted {
		return
	}
	n := h.node(e.owner)
	n.wanted += by
	n.memory += uint64(by) * e.memory
	if n.volumes[e.volume] += by; n.volumes[e.volume] == 0 {
		delete(n.volumes, e.volume)
	}
}

// follow takes in that a group may have changed, or is gone.
func (h *Holdings) follow(s *pb.State, name string) {
	old, had := h.counted[name]
	g := s.Groups[name]
	var now entry
	if g != nil {
		now = entryOf(g)
	}
	if old == now {
		return
	}
	if had {
		h.count(name, old, -1)
		h.unlist(old)
		delete(h.counted, name)
	}
	if g != nil {
		h.counted[name] = now
		h.count(name, now, 1)
		h.list(now)
	}
}

func (h *Holdings) list(e entry) {
	for _, id := range e.keepers() {
		n := h.node(id)
		at, _ := slices.BinarySearchFunc(n.groups, e.g, byName)
		n.groups = slices.Insert(n.groups, at, e.g)
	}
}

func (h *Holdings) unlist(e entry) {
	for _, id := range e.keepers() {
		n := h.node(id)
		if at, is := slices.BinarySearchFunc(n.groups, e.g, byName); is {
			n.groups = slices.Delete(n.groups, at, at+1)
		}
	}
}

// of is what a node has. It must not be changed.
func (h *Holdings) of(node uint64) holding {
	if n := h.nodes[node]; n != nil {
		return *n
	}
	return holding{}
}

// migrating are the groups that have a migration, by their names.
func (h *Holdings) migrating(s *pb.State) []*pb.Group {
	var out []*pb.Group
	for _, name := range slices.Sorted(maps.Keys(h.moving)) {
		out = append(out, s.Groups[name])
	}
	return out
}

// afar are the groups that are to go back where they were, in turn.
func (h *Holdings) afar(s *pb.State) []*pb.Group {
	var out []*pb.Group
	for name := range h.away {
		out = append(out, s.Groups[name])
	}
	slices.SortFunc(out, inTurn)
	return out
}

// homeless are the groups that may need another owner, in turn: whose owner is
// not up, and who failed, or must not start, where they are. homelessBecause says of each
// whether it does.
func (h *Holdings) homeless(s *pb.State) []*pb.Group {
	var out []*pb.Group
	for id, n := range h.nodes {
		owner := s.Nodes[id]
		if owner != nil && (owner.State != pb.NodeState_NODE_STATE_DOWN || owner.Fence.GetDoneMs() == 0) {
			continue
		}
		for _, g := range n.groups {
			if g.Owner == id && !h.suspect[g.Name] {
				out = append(out, g)
			}
		}
	}
	for name := range h.suspect {
		out = append(out, s.Groups[name])
	}
	slices.SortFunc(out, inTurn)
	return out
}

// changes names the groups that a command may change. all: it may be any.
func (h *Holdings) changes(c *pb.Command) (names []string, all bool) {
	switch k := c.Kind.(type) {
	case *pb.Command_GroupAdd:
		return []string{k.GroupAdd.GetGroup().GetName()}, false
	case *pb.Command_GroupRemove:
		return []string{k.GroupRemove.Name}, false
	case *pb.Command_GroupDesire:
		return []string{k.GroupDesire.Name}, false
	case *pb.Command_GroupAssign:
		return []string{k.GroupAssign.Name}, false
	case *pb.Command_GroupReport:
		return []string{k.GroupReport.Name}, false
	case *pb.Command_GroupSave:
		return []string{k.GroupSave.Name}, false
	case *pb.Command_GroupSaved:
		return []string{k.GroupSaved.Name}, false
	case *pb.Command_GroupSaveEnd:
		return []string{k.GroupSaveEnd.Name}, false
	case *pb.Command_GroupResume:
		return []string{k.GroupResume.Name}, false
	case *pb.Command_GroupDiscard:
		return []string{k.GroupDiscard.Name}, false
	case *pb.Command_GroupPolicySet:
		return []string{k.GroupPolicySet.Name}, false
	case *pb.Command_GroupMove:
		return []string{k.GroupMove.Name}, false
	case *pb.Command_MigrationStart:
		return []string{k.MigrationStart.Group}, false
	case *pb.Command_MigrationBegin:
		return []string{k.MigrationBegin.Group}, false
	case *pb.Command_MigrationSwitch:
		return []string{k.MigrationSwitch.Group}, false
	case *pb.Command_MigrationEnd:
		return []string{k.MigrationEnd.Group}, false
	case *pb.Command_MigrationCancel:
		return []string{k.MigrationCancel.Group}, false
	case *pb.Command_StorageMoveStart:
		return []string{k.StorageMoveStart.Group}, false
	case *pb.Command_StorageMoveBegin:
		return []string{k.StorageMoveBegin.Group}, false
	case *pb.Command_StorageMoveSwitch:
		return []string{k.StorageMoveSwitch.Group}, false
	case *pb.Command_StorageMoveFail:
		return []string{k.StorageMoveFail.Group}, false
	case *pb.Command_StorageMoveEnd:
		return []string{k.StorageMoveEnd.Group}, false
	case *pb.Command_DrainHold:
		return []string{k.DrainHold.Group}, false
	case *pb.Command_NodeUp: // which has some not start by themselves
		for _, g := range h.of(k.NodeUp.Node).groups {
			names = append(names, g.Name)
		}
		return names, false
	case *pb.Command_NodeDown: // which ends migrations
		return slices.Sorted(maps.Keys(h.moving)), false
	case *pb.Command_FenceProof, *pb.Command_NodeReport, *pb.Command_PathsReport, *pb.Command_ProfileReport,
		*pb.Command_VolumeAssign, *pb.Command_VolumeReport, *pb.Command_WitnessHosted, *pb.Command_Note,
		*pb.Command_NodeDrained, *pb.Command_DrainWaits, *pb.Command_NodeReturned, *pb.Command_Disarm, *pb.Command_DisarmLeft, *pb.Command_Arm, *pb.Command_NodeHeld,
		*pb.Command_AffinitySet, *pb.Command_AffinityRemove:
		return nil, false
	}
	return nil, true
}

// Check tells whether these are a state's holdings. It looks at all groups.
func (h *Holdings) Check(s *pb.State) error {
	want := HoldingsOf(s)
	if !maps.Equal(h.counted, want.counted) || !maps.Equal(h.suspect, want.suspect) || !maps.Equal(h.moving, want.moving) || !maps.Equal(h.away, want.away) {
		return fmt.Errorf("of %d groups %d are counted, not all as they are", len(want.counted), len(h.counted))
	}
	for id := range s.Nodes {
		a, b := h.of(id), want.of(id)
		if !slices.Equal(a.groups, b.groups) || a.memory != b.memory || a.wanted != b.wanted || !maps.Equal(a.volumes, b.volumes) {
			return fmt.Errorf("node %d is counted to have %d groups, of which %d should run, and it has %d and %d", id, len(a.groups), a.wanted, len(b.groups), b.wanted)
		}
	}
	return nil
}
