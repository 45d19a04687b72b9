package cluster

import (
	"fmt"
	"time"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// Leadership is what a node's replica knows of its own part as leader.
type Leadership struct {
	Leads                 bool
	Term, Applied, Commit uint64
	// Since is when it became leader, LastQuorum when at the latest a majority
	// followed it; Quiet is as in Input.
	Since, LastQuorum time.Time
	Quiet             time.Duration
}

// MayDecide tells whether a leader may run the controller now: a majority has just
// followed, and everything of former leaders is applied. A leader that hung and
// wakes decides nothing.
func (l Leadership) MayDecide(now time.Time, p Profile) bool {
	if mutant.On("yesterday's leader decides") {
		return l.Leads
	}
	return l.Leads && l.Applied >= l.Commit && now.Sub(l.LastQuorum) < p.Election/2
}

// caughtUpWithin is how many entries a member may be behind and still count as
// up to date.
const caughtUpWithin = 64

// CaughtUp tells whether a member other than the leader is up to date: active, where it
// was heard lately, and match is how far its log agrees with the leader's. raft counts a
// new member as active until it finds otherwise: one that has never answered has matched
// nothing.
func (l Leadership) CaughtUp(active bool, match uint64) bool {
	return active && match > 0 && match+caughtUpWithin >= l.Commit
}

// DecisionLane names a decision of the controller: while it is being proposed, the
// same one is not proposed again, though its reason may have other numbers in it.
func DecisionLane(c *pb.Command) string {
	switch k := c.Kind.(type) {
	case *pb.Command_NodeDown:
		return fmt.Sprintf("node-down/%d/%d/%d", k.NodeDown.Node, k.NodeDown.Epoch, k.NodeDown.Fencer)
	case *pb.Command_GroupAssign:
		// To whom may change with each other group that is given away.
		return fmt.Sprintf("group-assign/%s/%d", k.GroupAssign.Name, k.GroupAssign.Epoch)
	case *pb.Command_MigrationStart:
		return "migration-start/" + k.MigrationStart.Group
	case *pb.Command_DrainWaits:
		return fmt.Sprintf("drain-waits/%d", k.DrainWaits.Node)
	case *pb.Command_NodeHeld:
		return fmt.Sprintf("node-held/%d", k.NodeHeld.Node)
	case *pb.Command_DisarmLeft:
		return fmt.Sprintf("disarm-left/%d", k.DisarmLeft.Id)
	}
	return fmt.Sprint(c)
}

// Follows tells whether a node that leads by this node's replica was heard lately
// enough to be relied on.
func (p Profile) Follows(now, heard time.Time) bool { return now.Sub(heard) < p.Election/2 }

// Leases answers the nodes' questions for their lease on the leader. It is not safe
// for concurrent use.
type Leases struct {
	profile Profile
	term    uint64
	renewed map[uint64]time.Time // last question of each node
	granted map[uint64]time.Time // last yes
}

// NewLeases makes one that has heard nothing.
func NewLeases(p Profile) *Leases {
	return &Leases{profile: p, renewed: map[uint64]time.Time{}, granted: map[uint64]time.Time{}}
}

// LeaseAnswer is what a node is told.
type LeaseAnswer struct {
	// Reason says why the lease is not granted, or is empty.
	Reason string
	// Age is how long ago a majority followed the leader: the lease runs from
	// then.
	Age, Lease time.Duration
}

// Renew takes in a node's question for its lease at an epoch. The lease runs from
// the leader's last contact with a majority, so that no later leader need wait
// for longer.
func (l *Leases) Renew(now time.Time, lead Leadership, s *pb.State, node, epoch uint64) LeaseAnswer {
	if !lead.Leads {
		return LeaseAnswer{Reason: "this node does not lead"}
	}
	lease := TimingsOf(s, l.profile).Long.Lease
	l.begin(lead.Term)
	l.renewed[node] = now
	age := now.Sub(lead.LastQuorum)
	switch n := s.Nodes[node]; {
	case (lead.LastQuorum.IsZero() || age >= lease) && !mutant.On("lease without majority"):
		return LeaseAnswer{Reason: "the leader has no contact with a majority"}
	case lead.Applied < lead.Commit:
		return LeaseAnswer{Reason: "the leader is still catching up"}
	case n == nil:
		return LeaseAnswer{Reason: "the node is not in the cluster"}
	case n.State != pb.NodeState_NODE_STATE_UP:
		return LeaseAnswer{Reason: "the node counts as down: " + n.Fence.GetReason()}
	case n.Epoch != epoch:
		return LeaseAnswer{Reason: fmt.Sprintf("the node is at epoch %d", n.Epoch)}
	}
	if !mutant.On("lease forgotten") {
		l.granted[node] = now
	}
	if mutant.On("lease without majority") {
		age = 0
	}
	return LeaseAnswer{Age: age, Lease: lease}
}

// begin forgets what was of an earlier time as leader.
func (l *Leases) begin(term uint64) {
	if l.term != term {
		l.term = term
		clear(l.renewed)
		clear(l.granted)
	}
}

// Heard is what the controller wants to know of a node; raft is when its clusterd
// was last heard.
func (l *Leases) Heard(term, node uint64, raft time.Time) Heard {
	l.begin(term)
	return Heard{Raft: raft, Renewed: l.renewed[node], Granted: l.granted[node]}
}
