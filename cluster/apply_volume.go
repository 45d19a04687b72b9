package cluster

import (
	pb "quorate/cluster/clusterpb"
)

// volumeGrown takes note of the size that a volume and its LUN have now.
func (d *Database) volumeGrown(c *pb.Command, k *pb.VolumeGrown) *pb.Result {
	v := d.s.Volumes[k.Name]
	switch {
	case v == nil:
		return notFound("volume", k.Name)
	case v.Directory != "":
		return refuseDirectory(v)
	case k.To <= k.From || k.Lun < k.To:
		return refuse(pb.Code_CODE_INVALID, "%s cannot have grown from %d to %d bytes on a LUN of %d", v.Name, k.From, k.To, k.Lun)
	}
	if disk := d.s.Disks[v.Disk]; disk != nil {
		disk.Size = max(disk.Size, k.Lun)
	}
	d.event(c, Info, "volume-grown", v.Name, "%s has %d MiB now, it had %d", v.Name, k.To>>20, k.From>>20)
	return ok()
}
