package csv

import "fmt"

// NodeID names a node of the cluster. Zero is no node.
type NodeID uint64

// Access is how a node reaches the data of a volume.
type Access uint8

// The states of access.
const (
	// Detached: the volume is not attached on the node.
	Detached Access = iota
	// Direct: the node reads and writes the LUN itself.
	Direct
	// Redirected: the node's data goes through the coordinator.
	Redirected
	// Paused: operations wait, with Status.Reason.
	Paused
	// Fenced: the node may not touch the LUN before it is admitted anew.
	Fenced
)

var accessNames = [...]string{"detached", "direct", "redirected", "paused", "fenced"}

// String is the state's name as operators see it.
func (a Access) String() string {
	if int(a) < len(accessNames) {
		return accessNames[a]
	}
	return fmt.Sprintf("access(%d)", uint8(a))
}

// Reason says why a volume is not in direct access on a node.
type Reason string

// The reasons that the product gives by itself.
const (
	ReasonNone            Reason = ""
	ReasonNoCoordinator   Reason = "waiting for the coordinator"
	ReasonGrace           Reason = "the new coordinator waits for nodes that have not come back"
	ReasonPathLost        Reason = "path to the LUN lost"
	ReasonLeaseLost       Reason = "lease of the node lost"
	ReasonReservationLost Reason = "reservation key of the node removed"
)

// Status is what a node observes of one volume.
type Status struct {
	Access Access
	Reason Reason
	// Epoch is the ownership epoch of the coordinator that the node talks
	// to, or last talked to.
	Epoch uint64
}

// Ownership is who coordinates a volume. It changes hands in one committed
// command that raises Epoch.
type Ownership struct {
	Coordinator NodeID
	Epoch       uint64
}

// Supersedes tells whether o is newer than old, and so must be obeyed by whoever
// knows old.
func (o Ownership) Supersedes(old Ownership) bool { return o.Epoch > old.Epoch }
