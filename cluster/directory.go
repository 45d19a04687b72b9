package cluster

import (
	pb "quorate/cluster/clusterpb"
)

// A volume may lie in a directory of a file system that all nodes share (NFSv4, GFS2,
// OCFS2, CephFS). It has no disk and no coordinator: each node attaches it, watches it, and
// is given up like one that has lost its path to a LUN where it is alone with that. What
// keeps a node that was given up from writing there is the file system's: it breaks the
// locks that the machines there have on their disks.

func refuseDirectory(v *pb.Volume) *pb.Result {
	return refuse(pb.Code_CODE_REFUSED, "%s lies in the directory %s: it has no disk of its own, and nobody coordinates it", v.Name, v.Directory)
}

// directoryAdd adds such a volume.
func (d *Database) directoryAdd(c *pb.Command, k *pb.VolumeAdd) *pb.Result {
	if k.DirectoryId == "" || k.Directory[0] != '/' || k.Disk != "" {
		return refuse(pb.Code_CODE_INVALID, "the directory %q must be an absolute path and have an id, and no disk", k.Directory)
	}
	for _, v := range d.s.Volumes {
		if v.Directory == k.Directory {
			return refuse(pb.Code_CODE_REFUSED, "%s is the volume %s already", k.Directory, v.Name)
		}
	}
	name, res := d.volumeName(k.Name)
	if res != nil {
		return res
	}
	d.s.Volumes[name] = &pb.Volume{Name: name, Directory: k.Directory, DirectoryId: k.DirectoryId, Path: "/ClusterStorage/" + name, Epoch: 1, ReadyEpoch: 1}
	d.event(c, Info, "volume-added", name, "%s is in the directory %s", name, k.Directory)
	return &pb.Result{Message: name}
}

// speaks tells whether a node says how much room a volume has: its coordinator does, or
// of nodes that have a directory the first.
func speaks(s *pb.State, v *pb.Volume, l Local, have LocalVolume) bool {
	if v.Directory == "" {
		return have.Coordinating && v.Coordinator == l.Node
	}
	for id, n := range s.Nodes {
		if id < l.Node && n.State == pb.NodeState_NODE_STATE_UP && v.Status[id].GetState() == "direct" {
			return false
		}
	}
	return have.State == "direct"
}

// directory is what a node does with such a volume.
func directory(s *pb.State, l Local, v *pb.Volume, have LocalVolume, attached bool) []Action {
	var out []Action
	if l.Lease && !attached {
		out = append(out, Attach{Volume: v.Name, Path: v.Path, Epoch: v.Epoch, Directory: v.Directory, DirectoryID: v.DirectoryId})
	}
	if attached {
		out = append(out, reportVolume(s, s.Nodes[l.Node], l, v, have)...)
	}
	return out
}
