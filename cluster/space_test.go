package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	pb "quorate/cluster/clusterpb"
)

func hasFree(size, free int64) *pb.Command {
	return &pb.Command{Kind: &pb.Command_VolumeReport{VolumeReport: &pb.VolumeReport{Name: "Volume1", Node: 2, NodeEpoch: 1, Size: size, Used: size - free, Free: &free}}}
}

// TestSpaceIsWarnedOfOnce: at each threshold there is one event, which says what to do,
// and another only after the volume was well below it.
func TestSpaceIsWarnedOfOnce(t *testing.T) {
	d := newDB(t)
	const size = 100 << 30
	tell := func(percent int64) []string {
		t.Helper()
		from := d.State().NextEvent
		d.must(hasFree(size, size*(100-percent)/100))
		var out []string
		for _, e := range d.State().Events {
			if e.Id > from && e.Kind == "volume-space" {
				out = append(out, fmt.Sprintf("%s: %s", e.Level, e.Text))
			}
		}
		return out
	}
	for _, c := range []struct {
		percent int64
		want    string
	}{
		{50, ""},
		{79, ""},
		{80, "warning: Volume1 is 80 % full, 20480 MiB are free. Remove what is not needed, or make its LUN larger at the SAN and run `clusterctl csv grow Volume1`"},
		{85, ""},
		{79, ""},
		{80, ""},
		{96, "error: Volume1 is 96 % full"},
		{94, ""},
		{93, "info: Volume1 is 93 % full now, below 95 %"},
		{89, ""},
		{88, "info: Volume1 is 88 % full now, below 90 %"},
		{90, "warning: Volume1 is 90 % full"},
		{20, "info: Volume1 is 20 % full now, below 90 %"},
		{100, "error: Volume1 is 100 % full, 0 MiB are free"},
	} {
		got := tell(c.percent)
		if len(got) > 1 || (c.want == "") != (len(got) == 0) || len(got) == 1 && !strings.HasPrefix(got[0], c.want) {
			t.Errorf("at %d %%: %q, want %q", c.percent, got, c.want)
		}
	}
	d.refused(&pb.Command{Kind: &pb.Command_VolumeSet{VolumeSet: &pb.VolumeSet{Name: "Volume1", WarnAt: []uint32{90, 80}}}}, "above the one before")
	d.must(&pb.Command{Kind: &pb.Command_VolumeSet{VolumeSet: &pb.VolumeSet{Name: "Volume1", WarnAt: []uint32{50}}}})
	if got := tell(60); len(got) != 0 {
		t.Errorf("between its own threshold, which was told of, and the product's: %q", got)
	}
	if v := d.State().Volumes["Volume1"]; v.Warned != 50 || !slices.Equal(WarnAt(v), []uint32{50}) {
		t.Errorf("%v", v)
	}
}

// TestFullVolumeReportsAtOnce: the coordinator does not wait for a change of 64 MiB.
func TestFullVolumeReportsAtOnce(t *testing.T) {
	d := newDB(t)
	const size = 1 << 30
	d.must(hasFree(size, size/2))
	l := at(d, 2, "sql")
	reports := func(free int64) bool {
		v := l.Volumes["Volume1"]
		v.Size, v.Free, v.Used = size, free, d.State().Volumes["Volume1"].Used
		l.Volumes["Volume1"] = v
		for _, a := range Act(d.State(), l) {
			if r, ok := a.(Report); ok && r.Command.GetVolumeReport().GetFree() == free && r.Command.GetVolumeReport().Free != nil {
				d.must(r.Command)
				return true
			}
		}
		return false
	}
	if reports(size/2 - 1) {
		t.Error("a byte is reported")
	}
	if !reports(size / 5) {
		t.Error("a threshold is not reported")
	}
	if !reports(0) {
		t.Error("no room is not reported")
	}
}

// TestMachineOnAFullVolumeGoesOnWhenThereIsRoom: not before, and by itself.
func TestMachineOnAFullVolumeGoesOnWhenThereIsRoom(t *testing.T) {
	d := newDB(t)
	const size = 1 << 30
	l := at(d, 2)
	l.Machines["sql"] = LocalMachine{Paused: "io-error"}
	resumes := func() bool { _, ok := find[ResumeMachine](Act(d.State(), l)); return ok }
	if !resumes() {
		t.Error("with room it does not go on")
	}
	d.must(hasFree(size, 0))
	if resumes() {
		t.Error("it goes on without room")
	}
	says := slices.ContainsFunc(Act(d.State(), l), func(a Action) bool {
		r, ok := a.(Report)
		return ok && strings.Contains(r.Command.GetGroupReport().GetStatus().GetDetail(), "Volume1 is full")
	})
	if !says {
		t.Error("it does not say why it stands")
	}
	d.must(hasFree(size, RoomToResume-1))
	if resumes() {
		t.Error("it goes on with too little room")
	}
	d.must(hasFree(size, RoomToResume))
	if !resumes() {
		t.Error("it does not go on")
	}
}
