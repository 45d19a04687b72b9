package cluster

import (
	"fmt"
	"slices"
	"strings"

	pb "quorate/cluster/clusterpb"
)

const (
	// RoomToResume is how much must be free, in bytes, until a machine that its full
	// volume has paused goes on: less would be taken up before the next look.
	RoomToResume = 16 << 20
	// spaceHysteresis is by how many percent a volume must be below a threshold until
	// it counts as below it.
	spaceHysteresis = 2
	// alarming is the threshold, in percent, from which on an event is an error.
	alarming  = 95
	maxWarnAt = 8
)

var warnAt = [...]uint32{80, 90, 95, 99}

// WarnAt are the thresholds of a volume, in percent.
func WarnAt(v *pb.Volume) []uint32 {
	if len(v.WarnAt) > 0 {
		return v.WarnAt
	}
	return warnAt[:]
}

// checkWarnAt refuses what cannot be thresholds.
func checkWarnAt(at []uint32) error {
	if len(at) > maxWarnAt {
		return fmt.Errorf("%d thresholds are given: %d are the most", len(at), maxWarnAt)
	}
	for i, p := range at {
		if p < 1 || p > 100 || i > 0 && p <= at[i-1] {
			return fmt.Errorf("thresholds are percentages from 1 to 100, each above the one before: %d is not", p)
		}
	}
	return nil
}

// fullness is how full a volume is, in percent: 100 where files get nothing more.
func fullness(size, free int64) uint32 {
	if size <= 0 {
		return 0
	}
	return uint32((size - min(max(free, 0), size)) * 100 / size)
}

// warnLevel is the highest threshold that a volume stands at, 0 for none, where it stood
// at before until now.
func warnLevel(at []uint32, percent, before uint32) uint32 {
	level := uint32(0)
	for _, t := range at {
		if percent >= t || t <= before && percent+spaceHysteresis > t {
			level = t
		}
	}
	return level
}

// spaceNews tells whether how much is free is to be reported at once.
func spaceNews(v *pb.Volume, size, free int64) bool {
	return size > 0 && (v.Free == 0 && free > 0 || warnLevel(WarnAt(v), fullness(size, free), v.Warned) != v.Warned || free < RoomToResume != v.Full)
}

// space takes note of how much is free on a volume.
func (d *Database) space(c *pb.Command, v *pb.Volume, free int64) {
	v.Free = free
	d.warn(c, v)
	switch full := free < RoomToResume; {
	case full && !v.Full:
		d.event(c, Error, "volume-full", v.Name, "%s is full: machines that need more of it are paused, and go on by themselves when %d MiB are free. %s", v.Name, RoomToResume>>20, helpWithSpace(v))
		v.Full = true
	case !full && v.Full:
		d.event(c, Info, "volume-full", v.Name, "%s has %d MiB of room again: machines that it had paused go on", v.Name, free>>20)
		v.Full = false
	}
}

// warn tells that a volume has come to another threshold.
func (d *Database) warn(c *pb.Command, v *pb.Volume) {
	percent := fullness(v.Size, v.Free)
	level := warnLevel(WarnAt(v), percent, v.Warned)
	switch {
	case level > v.Warned:
		how := Warning
		if level >= alarming {
			how = Error
		}
		d.event(c, how, "volume-space", v.Name, "%s is %d %% full, %d MiB are free. %s", v.Name, percent, v.Free>>20, helpWithSpace(v))
	case level < v.Warned:
		d.event(c, Info, "volume-space", v.Name, "%s is %d %% full now, below %d %%: %d MiB are free", v.Name, percent, v.Warned, v.Free>>20)
	}
	v.Warned = level
}

func helpWithSpace(v *pb.Volume) string {
	return fmt.Sprintf("Remove what is not needed, or make its LUN larger at the SAN and run `clusterctl csv grow %s`", v.Name)
}

// volumeSet changes at which thresholds a volume's space is warned of.
func (d *Database) volumeSet(c *pb.Command, k *pb.VolumeSet) *pb.Result {
	v := d.s.Volumes[k.Name]
	if v == nil {
		return notFound("volume", k.Name)
	}
	if err := checkWarnAt(k.WarnAt); err != nil {
		return refuse(pb.Code_CODE_INVALID, "%v", err)
	}
	if !slices.Equal(v.WarnAt, k.WarnAt) {
		v.WarnAt = k.WarnAt
		d.event(c, Info, "volume-set", v.Name, "the space of %s is warned of at %s %%", v.Name, strings.Trim(strings.Join(strings.Fields(fmt.Sprint(WarnAt(v))), ", "), "[]"))
		d.warn(c, v)
	}
	return ok()
}
