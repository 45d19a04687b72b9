package main

import "quorate/cluster/api/apipb"

// What follows is what scripts read with -o json: names and types hold for good.

type clusterJSON struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address"`
}

type witnessJSON struct {
	Disk  string `json:"disk"`
	State string `json:"state"`
	Host  string `json:"host"`
	Share string `json:"share"` // folder, of a witness that has no disk
}

type quorumJSON struct {
	Mode    string      `json:"mode"`
	Have    int32       `json:"have"`
	Needed  int32       `json:"needed"`
	Total   int32       `json:"total"`
	State   string      `json:"state"`
	Witness witnessJSON `json:"witness"`
}

type nodeJSON struct {
	Name        string   `json:"name"`
	State       string   `json:"state"`
	Vote        bool     `json:"vote"`
	Address     string   `json:"address"`
	Coordinates []string `json:"coordinates"`
	Groups      []string `json:"groups"`
}

type diskJSON struct {
	Name  string `json:"name"`
	ID    string `json:"id"`
	Size  int64  `json:"size"`
	Role  string `json:"role"`
	State string `json:"state"`
}

type volumeJSON struct {
	Name        string `json:"name"`
	Path        string `json:"path"`
	Coordinator string `json:"coordinator"`
	State       string `json:"state"`
	Size        int64  `json:"size"`
	Used        int64  `json:"used"`
}

type groupJSON struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	State string `json:"state"`
	Owner string `json:"owner"`
	Epoch uint64 `json:"epoch"`
}

type statusJSON struct {
	Cluster clusterJSON  `json:"cluster"`
	Quorum  quorumJSON   `json:"quorum"`
	Nodes   []nodeJSON   `json:"nodes"`
	Disks   []diskJSON   `json:"disks"`
	Volumes []volumeJSON `json:"volumes"`
	Groups  []groupJSON  `json:"groups"`
	Stale   bool         `json:"stale"`

	Networks []networkJSON `json:"networks"`
	Disarmed *disarmJSON   `json:"disarmed,omitempty"`
}

func newStatusJSON(s *apipb.StatusResponse) statusJSON {
	return statusJSON{
		Cluster: clusterJSON{s.Cluster.GetName(), s.Cluster.GetId(), s.Cluster.GetAddress()},
		Quorum:  newQuorumJSON(s.Quorum),
		Nodes:   each(s.Nodes, newNodeJSON),
		Disks:   each(s.Disks, newDiskJSON),
		Volumes: each(s.Volumes, newVolumeJSON),
		Groups:  each(s.Groups, newGroupJSON),
		Stale:   s.Stale,

		Networks: each(s.Networks, newNetworkJSON),
		Disarmed: newDisarmJSON(s.Disarmed),
	}
}

func newQuorumJSON(q *apipb.QuorumInfo) quorumJSON {
	w := q.GetWitness()
	return quorumJSON{q.GetMode(), q.GetHave(), q.GetNeeded(), q.GetTotal(), q.GetState(), witnessJSON{w.GetDisk(), w.GetState(), w.GetHost(), w.GetShare()}}
}

func newNodeJSON(n *apipb.NodeInfo) nodeJSON {
	return nodeJSON{n.GetName(), n.GetState(), n.GetVote(), n.GetAddress(), orEmpty(n.GetCoordinates()), orEmpty(n.GetGroups())}
}

func newDiskJSON(d *apipb.DiskInfo) diskJSON {
	return diskJSON{d.GetName(), d.GetId(), d.GetSize(), d.GetRole(), d.GetState()}
}

func newVolumeJSON(v *apipb.VolumeInfo) volumeJSON {
	return volumeJSON{v.GetName(), v.GetPath(), v.GetCoordinator(), v.GetState(), v.GetSize(), v.GetUsed()}
}

func newGroupJSON(g *apipb.GroupInfo) groupJSON {
	return groupJSON{g.GetName(), g.GetType(), g.GetState(), g.GetOwner(), g.GetEpoch()}
}

func each[From, To any](from []From, f func(From) To) []To {
	to := make([]To, 0, len(from))
	for _, x := range from {
		to = append(to, f(x))
	}
	return to
}
