package lab

import (
	"context"
	"time"

	"quorate/test/lab/box"
)

// Power is how a box stands.
type Power string

// The states of a box.
const (
	On   Power = "on"
	Off  Power = "off"
	Hung Power = "hung"
)

// NodeStatus is how a node stands.
type NodeStatus struct {
	Name  string `json:"name"`
	Power Power  `json:"power"`
	// Addresses are the node's by network.
	Addresses map[string]string `json:"addresses"`
	// Cut are the networks whose cable is pulled.
	Cut []string `json:"cut"`
	// Daemons are not known while the node hangs.
	Daemons []box.Daemon `json:"daemons"`
	// Processes is how many there are, the lab's own process 1 among them.
	Processes int `json:"processes"`
}

// Status is how a lab stands.
type Status struct {
	Dir   string       `json:"dir"`
	SAN   SANStatus    `json:"san"`
	Nodes []NodeStatus `json:"nodes"`
}

// SANStatus is how the SAN stands.
type SANStatus struct {
	Kind   string `json:"kind"`
	Power  Power  `json:"power"`
	Portal string `json:"portal"`
	Target string `json:"target"`
	Cut    bool   `json:"cut"`
}

const askLimit = 2 * time.Second // for process 1 to answer

// Status looks at everything.
func (l *Lab) Status(ctx context.Context) (Status, error) {
	now, err := Open(l.o.Dir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Dir: l.o.Dir, SAN: SANStatus{
		Kind: now.o.SAN, Power: power(now.box(sanBox)), Portal: Portal, Target: TargetIQN, Cut: now.isCut(sanBox, Storage),
	}}
	for i, name := range now.Nodes() {
		b := now.box(name)
		n := NodeStatus{Name: name, Power: power(b), Addresses: map[string]string{}, Cut: now.state.Cuts[name]}
		for _, net := range Networks() {
			n.Addresses[net] = address(net, i+1)
		}
		procs, err := b.Processes()
		if err != nil {
			return Status{}, err
		}
		n.Processes = len(procs)
		if n.Power == On {
			ask, cancel := context.WithTimeout(ctx, askLimit)
			n.Daemons, err = b.Daemons(ask)
			cancel()
			if err != nil && ctx.Err() != nil {
				return Status{}, err
			}
		}
		s.Nodes = append(s.Nodes, n)
	}
	return s, nil
}

func power(b box.Box) Power {
	pid, err := b.PID()
	switch {
	case pid == 0 || err != nil:
		return Off
	case b.Hung():
		return Hung
	}
	return On
}
