package node

import (
	"testing"

	pb "quorate/cluster/clusterpb"
)

// TestDiskIsAsLargeAsItsVolume: a volume has grown, and the command that was to say so was
// lost with whoever proposed it; its coordinator reports the size.
func TestDiskIsAsLargeAsItsVolume(t *testing.T) {
	d := &pb.Disk{Id: "a", Name: "Disk1", Size: 10 << 30}
	s := &pb.State{
		Disks: map[string]*pb.Disk{"a": d, "b": {Id: "b"}},
		Volumes: map[string]*pb.Volume{
			"Volume1": {Name: "Volume1", Disk: "a", Size: 12 << 30}, "Volume2": {Name: "Volume2", Disk: "b", Size: 20 << 30},
		},
	}
	if got := diskInfo(s, d).Size; got != 12<<30 {
		t.Errorf("%d bytes", got)
	}
	s.Volumes["Volume1"].Size = 9 << 30 // it does not fill its disk
	if got := diskInfo(s, d).Size; got != 10<<30 {
		t.Errorf("%d bytes", got)
	}
}
