package cluster

import (
	"fmt"

	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// FirstWitness is the lowest raft id of a witness.
const FirstWitness = 1 << 32

func (d *Database) diskAdd(c *pb.Command, k *pb.DiskAdd) *pb.Result {
	n := k.Disk
	if n == nil || n.Id == "" {
		return refuse(pb.Code_CODE_INVALID, "the disk has no identity (VPD page 0x83): the SAN must give it one")
	}
	have := d.s.Disks[n.Id]
	if have == nil {
		if d.s.Disks == nil {
			d.s.Disks = map[string]*pb.Disk{}
		}
		have = &pb.Disk{Id: n.Id, Role: pb.DiskRole_DISK_ROLE_AVAILABLE, Name: fmt.Sprintf("Cluster Disk %d", len(d.s.Disks)+1)}
		d.s.Disks[n.Id] = have
		d.event(c, Info, "disk-added", have.Name, "%s is %s, %d MiB", have.Name, n.Id, n.Size>>20)
	}
	have.Serial, have.Size, have.Url, have.Product = n.Serial, n.Size, n.Url, n.Product
	if have.NodeUrls == nil {
		have.NodeUrls = map[uint64]string{}
	}
	for id, url := range n.NodeUrls {
		have.NodeUrls[id] = url
	}
	return ok()
}

func (d *Database) portalAdd(c *pb.Command, k *pb.PortalAdd) *pb.Result {
	for _, p := range d.s.Portals {
		if p == k.Portal {
			return ok()
		}
	}
	d.s.Portals = append(d.s.Portals, k.Portal)
	d.findNetworks(c)
	return ok()
}

// diskClaim records that a node is about to write to a disk, to make it ready for
// something, so that no other does at the same time. A claim ends when the disk gets its
// role, when it is given up, or when another takes it over from a node that is down; a
// node that asks again has forgotten the claim that it had.
func (d *Database) diskClaim(_ *pb.Command, k *pb.DiskClaim) *pb.Result {
	disk := d.s.Disks[k.Disk]
	switch old := disk.GetClaim(); {
	case disk == nil:
		return notFound("disk", k.Disk)
	case k.Claim.GetId() == 0:
		return refuse(pb.Code_CODE_INVALID, "the claim on %s has no id", disk.Name)
	case k.Release:
		if old.GetId() == k.Claim.Id {
			disk.Claim = nil
		}
		return ok()
	case disk.Role != pb.DiskRole_DISK_ROLE_AVAILABLE:
		return refuse(pb.Code_CODE_REFUSED, "%s is in use already, as %s: choose a disk that is available", disk.Name, RoleOf(disk.Role))
	case old != nil && old.Node != k.Claim.Node && d.up(old.Node):
		return refuse(pb.Code_CODE_REFUSED, "%s is being made ready by %s, as %s: wait until that has ended", disk.Name, d.nodeName(old.Node), old.Purpose)
	}
	disk.Claim = k.Claim
	return ok()
}

// claimed refuses the use of a disk that another has claimed, or that has lost its
// claim. Where neither has one it was not claimed, as before format 3.
func (d *Database) claimed(disk *pb.Disk, claim uint64) *pb.Result {
	if have := disk.GetClaim(); have.GetId() != claim {
		return refuse(pb.Code_CODE_REFUSED, "%s was claimed by another meanwhile, by %s as %s: look at it, and try again", disk.Name, d.nodeName(have.GetNode()), have.GetPurpose())
	}
	return nil
}

func (d *Database) quorumSet(c *pb.Command, k *pb.QuorumSet) *pb.Result {
	q := d.s.Quorum
	mode := quorum.Mode(ModeOf(k.Mode))
	disk, share := "", ""
	switch {
	case mode.OnDisk():
		disk = k.WitnessDisk
		switch have := d.s.Disks[disk]; {
		case have == nil:
			return notFound("disk", disk)
		case have.Role == pb.DiskRole_DISK_ROLE_VOLUME:
			return refuse(pb.Code_CODE_REFUSED, "%s holds a volume and cannot be the witness", have.Name)
		}
	case mode.OnShare():
		if share = k.WitnessShare; share == "" {
			return refuse(pb.Code_CODE_INVALID, "the mode %s takes a directory of a share", mode)
		}
	}
	if disk != q.WitnessDisk || share != q.WitnessShare {
		if res := d.replaceWitness(disk, share, k.Claim); res != nil {
			return res
		}
	}
	q.Mode, q.Why = k.Mode, k.Why
	d.event(c, Info, "quorum-set", ModeOf(q.Mode), "quorum is %s: %s", ModeOf(q.Mode), k.Why)
	return ok()
}

// replaceWitness makes a disk, a share or, where both are empty, nothing the witness.
// The one of before is hosted until it has no vote any more. It returns why not.
func (d *Database) replaceWitness(disk, share string, claim uint64) *pb.Result {
	q := d.s.Quorum
	if q.FormerVoter != 0 {
		return refuse(pb.Code_CODE_REFUSED, "the witness before is still losing its vote: look at `clusterctl quorum show`, and try again when it is gone")
	}
	if disk != "" && disk != q.WitnessDisk {
		if res := d.claimed(d.s.Disks[disk], claim); res != nil {
			return res
		}
	}
	if HasWitness(q) {
		q.FormerDisk, q.FormerShare, q.FormerVoter = q.WitnessDisk, q.WitnessShare, q.WitnessVoter
	}
	q.WitnessDisk, q.WitnessShare, q.WitnessHost, q.WitnessGeneration = disk, share, 0, 0
	if HasWitness(q) {
		// A new witness is a new voter: it knows nothing of what the old one
		// promised.
		q.WitnessVoter = max(q.WitnessVoter+1, FirstWitness)
	}
	if disk != "" {
		d.s.Disks[disk].Role, d.s.Disks[disk].Claim = pb.DiskRole_DISK_ROLE_WITNESS, nil
	}
	return nil
}

// HasWitness tells whether there is one, on a disk or on a share.
func HasWitness(q *pb.Quorum) bool { return q.GetWitnessDisk() != "" || q.GetWitnessShare() != "" }

func (d *Database) witnessHosted(c *pb.Command, k *pb.WitnessHosted) *pb.Result {
	q := d.s.Quorum
	if k.Voter != q.WitnessVoter {
		return refuse(pb.Code_CODE_STALE, "voter %d is not the witness", k.Voter)
	}
	if k.Generation <= q.WitnessGeneration {
		return stale("the witness", q.WitnessGeneration, k.Generation)
	}
	q.WitnessHost, q.WitnessGeneration = k.Node, k.Generation
	d.event(c, Info, "witness-hosted", d.nodeName(k.Node), "%s hosts the witness", d.nodeName(k.Node))
	return ok()
}

// witnessDropped records that the witness of before has no vote any more: its disk
// is free.
func (d *Database) witnessDropped(c *pb.Command, k *pb.WitnessDropped) *pb.Result {
	q := d.s.Quorum
	if q.FormerVoter == 0 || q.FormerVoter != k.Voter {
		return refuse(pb.Code_CODE_STALE, "voter %d is not the witness of before", k.Voter)
	}
	if old := d.s.Disks[q.FormerDisk]; old != nil && q.FormerDisk != q.WitnessDisk {
		old.Role = pb.DiskRole_DISK_ROLE_AVAILABLE
		d.event(c, Info, "witness-dropped", old.Name, "%s is the witness no more", old.Name)
	}
	if q.FormerShare != "" {
		d.event(c, Info, "witness-dropped", q.FormerShare, "%s is the witness no more", q.FormerShare)
	}
	q.FormerDisk, q.FormerShare, q.FormerVoter = "", "", 0
	return ok()
}

func (d *Database) csvEnable(c *pb.Command, k *pb.CsvEnable) *pb.Result {
	if !k.Enabled && len(d.s.Volumes) > 0 {
		return refuse(pb.Code_CODE_REFUSED, "shared volumes cannot be disabled while there are %d", len(d.s.Volumes))
	}
	if d.s.Cluster.CsvEnabled != k.Enabled {
		d.s.Cluster.CsvEnabled = k.Enabled
		d.event(c, Info, "csv-enabled", d.s.Cluster.Name, "shared volumes are enabled")
	}
	return ok()
}

func (d *Database) volumeAdd(c *pb.Command, k *pb.VolumeAdd) *pb.Result {
	if !d.s.Cluster.CsvEnabled {
		return refuse(pb.Code_CODE_REFUSED, "shared volumes are not enabled: run `clusterctl csv enable` first")
	}
	if k.Directory != "" {
		return d.directoryAdd(c, k)
	}
	disk := d.s.Disks[k.Disk]
	switch {
	case disk == nil:
		return notFound("disk", k.Disk)
	case disk.Role != pb.DiskRole_DISK_ROLE_AVAILABLE:
		return refuse(pb.Code_CODE_REFUSED, "%s is in use already, as %s", disk.Name, RoleOf(disk.Role))
	case d.s.Nodes[k.Coordinator] == nil:
		return refuse(pb.Code_CODE_NOT_FOUND, "there is no node %d", k.Coordinator)
	}
	if res := d.claimed(disk, k.Claim); res != nil {
		return res
	}
	name, res := d.volumeName(k.Name)
	if res != nil {
		return res
	}
	if res := d.refuseDraining(k.Coordinator); res != nil {
		return res
	}
	disk.Role, disk.Claim = pb.DiskRole_DISK_ROLE_VOLUME, nil
	// Whoever adds a volume has formatted its disk.
	d.s.Volumes[name] = &pb.Volume{Name: name, Disk: k.Disk, Path: "/ClusterStorage/" + name, Coordinator: k.Coordinator, Epoch: max(k.Epoch, 1), Formatted: true}
	d.event(c, Info, "volume-added", name, "%s is on %s, coordinated by %s", name, disk.Name, d.nodeName(k.Coordinator))
	return &pb.Result{Message: name}
}

// volumeName is the name of a new volume: the next that is free where none is given. It
// returns why not.
func (d *Database) volumeName(name string) (string, *pb.Result) {
	for i := 1; name == ""; i++ {
		if try := fmt.Sprintf("Volume%d", i); d.s.Volumes[try] == nil {
			name = try
		}
	}
	if err := CheckName("volume", name); err != nil {
		return "", refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	if d.s.Volumes[name] != nil {
		return "", refuse(pb.Code_CODE_REFUSED, "there is a volume %s already", name)
	}
	if d.s.Volumes == nil {
		d.s.Volumes = map[string]*pb.Volume{}
	}
	return name, nil
}

// volumeAssign gives a volume another coordinator. The old one must be unable to
// write.
func (d *Database) volumeAssign(c *pb.Command, k *pb.VolumeAssign) *pb.Result {
	v := d.s.Volumes[k.Name]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case v.Epoch != k.Epoch:
		return stale("volume "+v.Name, v.Epoch, k.Epoch)
	case v.Directory != "":
		return refuseDirectory(v)
	case !d.up(k.To):
		return refuse(pb.Code_CODE_REFUSED, "%s is not up and cannot coordinate %s", d.nodeName(k.To), v.Name)
	}
	if res := d.refuseDraining(k.To); res != nil {
		return res
	}
	if old := d.s.Nodes[v.Coordinator]; old != nil {
		if old.State == pb.NodeState_NODE_STATE_UP {
			return refuse(pb.Code_CODE_REFUSED, "%s coordinates %s and is up", old.Name, v.Name)
		}
		if !gaveUp(old.Fence, v.Disk) {
			return refuse(pb.Code_CODE_REFUSED, "%s coordinated %s and may still write to it", old.Name, v.Name)
		}
	}
	d.movedVolume(v.Name, v.Coordinator, k.To)
	v.Coordinator, v.MoveTo = k.To, 0
	v.Epoch++
	d.event(c, Warning, "volume-moved", v.Name, "%s is coordinated by %s now: %s", v.Name, d.nodeName(k.To), k.Reason)
	return ok()
}

func (d *Database) volumeReport(c *pb.Command, k *pb.VolumeReport) *pb.Result {
	v := d.s.Volumes[k.Name]
	n := d.s.Nodes[k.Node]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case n == nil || n.Epoch != k.NodeEpoch || n.State != pb.NodeState_NODE_STATE_UP:
		return refuse(pb.Code_CODE_STALE, "the report of node %d is of epoch %d, which is over", k.Node, k.NodeEpoch)
	case k.CloseEpoch != 0 && (k.CloseEpoch != v.CloseEpoch || !wantsClosed(v)), k.CloseEpoch == 0 && k.Status.GetState() == Closed:
		return refuse(pb.Code_CODE_STALE, "%s was opened again since node %d closed it", v.Name, k.Node)
	}
	if k.Status != nil {
		if v.Status == nil {
			v.Status = map[uint64]*pb.VolumeStatus{}
		}
		old := v.Status[k.Node]
		k.Status.NodeEpoch = k.NodeEpoch
		v.Status[k.Node] = k.Status
		if old.GetState() != k.Status.State {
			level := Info
			if k.Status.State != "direct" && k.Status.State != Closed {
				level = Warning
			}
			d.event(c, level, "volume-state", v.Name, "%s is %s on %s%s", v.Name, k.Status.State, n.Name, because(k.Status.Reason))
		}
	}
	if k.ServingEpoch > v.ReadyEpoch && v.Coordinator == k.Node && k.ServingEpoch == v.Epoch {
		v.ReadyEpoch = k.ServingEpoch
		v.Unsettled, v.Session = 0, nil
	}
	if k.Size > 0 && (v.Coordinator == k.Node || v.Directory != "") {
		v.Size, v.Used = k.Size, k.Used
		if k.Free != nil {
			d.space(c, v, *k.Free)
		}
	}
	return ok()
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// up tells whether a node may be given something.
func (d *Database) up(id uint64) bool {
	n := d.s.Nodes[id]
	return n != nil && n.State == pb.NodeState_NODE_STATE_UP && !n.Leaving
}

// ModeOf is a mode's name for operators, as package quorum has it.
func ModeOf(m pb.QuorumMode) string {
	switch m {
	case pb.QuorumMode_QUORUM_MODE_NODE_MAJORITY:
		return "node-majority"
	case pb.QuorumMode_QUORUM_MODE_NODE_AND_DISK_MAJORITY:
		return "node-and-disk-majority"
	case pb.QuorumMode_QUORUM_MODE_NODE_AND_SHARE_MAJORITY:
		return "node-and-share-majority"
	case pb.QuorumMode_QUORUM_MODE_DISK_ONLY:
		return "disk-only"
	}
	return "unknown"
}

// RoleOf is a role's name for operators.
func RoleOf(r pb.DiskRole) string {
	switch r {
	case pb.DiskRole_DISK_ROLE_WITNESS:
		return "witness"
	case pb.DiskRole_DISK_ROLE_VOLUME:
		return "volume"
	}
	return "available"
}
