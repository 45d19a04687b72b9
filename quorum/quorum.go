// Package quorum is the arithmetic of votes and the arbitration of the witness:
// which voters a mode wants, how many of them are needed, which change of the
// configuration comes next, and when a node may take the witness over.
//
// It is pure, and called by cluster (the controller), by quorum/witness (which
// carries the arbitration out) and by whatever shows votes to an operator. It
// knows voters by number, and nothing of raft, disks or machines.
//
// Traps: the quorum that holds is raft's present configuration (Standing), not
// what should be (Assign); between the two lie steps, one at a time (Next). A vote
// follows who is heard by raft, not who counts as up: a node whose noded ended is
// down, and its vote still counts.
package quorum

import (
	"errors"
	"fmt"
	"slices"
)

// Mode is how votes are given.
type Mode string

// The modes.
const (
	// NodeMajority: every node has a vote.
	NodeMajority Mode = "node-majority"
	// NodeAndDiskMajority: every node has a vote, and so has the witness.
	NodeAndDiskMajority Mode = "node-and-disk-majority"
	// NodeAndShareMajority: the same, with the witness on a file system that
	// all nodes mount.
	NodeAndShareMajority Mode = "node-and-share-majority"
	// DiskOnly: the witness alone has a vote.
	DiskOnly Mode = "disk-only"
)

// Modes lists them.
func Modes() []Mode { return []Mode{NodeMajority, NodeAndDiskMajority, NodeAndShareMajority, DiskOnly} }

// ParseMode reads a mode.
func ParseMode(s string) (Mode, error) {
	if slices.Contains(Modes(), Mode(s)) {
		return Mode(s), nil
	}
	return "", fmt.Errorf("%q is no quorum mode: choose one of %v", s, Modes())
}

// NeedsWitness tells whether the mode has one.
func (m Mode) NeedsWitness() bool { return m.OnDisk() || m.OnShare() }

// OnDisk tells whether the mode has a witness on a LUN.
func (m Mode) OnDisk() bool { return m == NodeAndDiskMajority || m == DiskOnly }

// OnShare tells whether the mode has a witness on a share.
func (m Mode) OnShare() bool { return m == NodeAndShareMajority }

// Needed is how many of total votes are a majority.
func Needed(total int) int { return total/2 + 1 }

// Candidate is a LUN that might be the witness.
type Candidate struct {
	ID   string
	Name string
	// Size in bytes.
	Size int64
	// SeenBy counts the nodes that see the LUN.
	SeenBy int
	// Unsuitable says why it cannot be the witness, or is empty.
	Unsuitable string
}

// MinWitnessSize is the smallest LUN that can be a witness, in bytes: two copies
// of the database with room.
const MinWitnessSize = 256 << 20

// Choice is a mode with its witness and the reason for both.
type Choice struct {
	Mode    Mode
	Witness string // a candidate's ID, or empty
	Why     string
}

// Choose picks the mode for a number of nodes: Node and Disk Majority with the
// smallest suitable LUN where the number is even, else Node Majority.
func Choose(nodes int, candidates []Candidate) Choice {
	if nodes%2 == 1 {
		return Choice{Mode: NodeMajority, Why: fmt.Sprintf("%d nodes are an odd number of votes: no witness is needed", nodes)}
	}
	best, rejected := PickWitness(nodes, candidates)
	if best == nil {
		why := fmt.Sprintf("%d nodes want a witness, but no LUN is suitable", nodes)
		if rejected != nil {
			why += ": " + rejected.Error()
		}
		return Choice{Mode: NodeMajority, Why: why}
	}
	return Choice{
		Mode: NodeAndDiskMajority, Witness: best.ID,
		Why: fmt.Sprintf("%d nodes are an even number of votes, so a witness decides; %s is the smallest suitable LUN that all nodes see", nodes, best.Name),
	}
}

// PickWitness returns the smallest suitable candidate, or nil with the reasons
// against each.
func PickWitness(nodes int, candidates []Candidate) (*Candidate, error) {
	var best *Candidate
	var rejected []error
	for _, c := range candidates {
		switch {
		case c.Unsuitable != "":
			rejected = append(rejected, fmt.Errorf("%s: %s", c.Name, c.Unsuitable))
		case c.SeenBy < nodes:
			rejected = append(rejected, fmt.Errorf("%s: seen by %d of %d nodes", c.Name, c.SeenBy, nodes))
		case c.Size < MinWitnessSize:
			rejected = append(rejected, fmt.Errorf("%s: %d MiB, a witness needs %d MiB", c.Name, c.Size>>20, MinWitnessSize>>20))
		case best == nil || c.Size < best.Size || (c.Size == best.Size && c.ID < best.ID):
			best = &c
		}
	}
	if best == nil {
		return nil, errors.Join(rejected...)
	}
	return best, nil
}
