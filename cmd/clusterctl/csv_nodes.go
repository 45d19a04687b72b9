package main

import (
	"github.com/jedib0t/go-pretty/v6/table"

	"quorate/cluster/api/apipb"
)

// volumeAccessJSON is how one node reaches one volume.
type volumeAccessJSON struct {
	Volume      string `json:"volume"`
	State       string `json:"state"`
	Reason      string `json:"reason"`
	Coordinates bool   `json:"coordinates"`
}

type nodeVolumesJSON struct {
	Node    string             `json:"node"`
	State   string             `json:"state"`
	Volumes []volumeAccessJSON `json:"volumes"`
}

// byNode turns the volumes round: what each node has of them. A node that says nothing
// of a volume has it not.
func byNode(s *apipb.StatusResponse, volumes []*apipb.VolumeInfo) []nodeVolumesJSON {
	return each(s.Nodes, func(n *apipb.NodeInfo) nodeVolumesJSON {
		return nodeVolumesJSON{n.Name, n.State, each(volumes, func(v *apipb.VolumeInfo) volumeAccessJSON {
			out := volumeAccessJSON{Volume: v.Name, State: "detached", Coordinates: v.Coordinator == n.Name}
			if !here(n) {
				out.Reason = "the node is " + n.State
			}
			for _, on := range v.On {
				if on.Node == n.Name {
					out.State, out.Reason = on.State, on.Reason
				}
			}
			return out
		})}
	})
}

// here tells whether a node has its volumes.
func here(n *apipb.NodeInfo) bool {
	switch n.State {
	case "up", "unmonitored", "draining", "drained", "silent":
		return true
	}
	return false
}

func (a *app) printByNode(nodes []nodeVolumesJSON) error {
	if a.asJSON() {
		return a.printJSON(nodes)
	}
	g := grid{head: table.Row{"Node", "Volume", "Access", "Reason", "Coordinates it"}}
	for _, n := range nodes {
		for _, v := range n.Volumes {
			g.rows = append(g.rows, row(n.Node, v.Volume, v.State, v.Reason, yesNo(v.Coordinates)))
		}
	}
	a.grid(g)
	return nil
}
