package node

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "quorate/cluster/clusterpb"
)

// TestOptionsOf: what one migration was given stands over the cluster's settings, a
// number that says "none" or "chosen" too.
func TestOptionsOf(t *testing.T) {
	s := &pb.State{Cluster: &pb.Cluster{Migration: &pb.MigrationSettings{Options: &pb.MigrationOptions{
		Streams: proto.Uint32(4), Bandwidth: proto.Uint64(1 << 20), Compression: proto.String("on"),
	}}}}
	for name, test := range map[string]struct{ own, want *pb.MigrationOptions }{
		"nothing": {nil, s.Cluster.Migration.Options},
		"none": {
			&pb.MigrationOptions{Streams: proto.Uint32(0), Bandwidth: proto.Uint64(0)},
			&pb.MigrationOptions{Streams: proto.Uint32(0), Bandwidth: proto.Uint64(0), Compression: proto.String("on")},
		},
		"more": {
			&pb.MigrationOptions{Compression: proto.String("off"), MaxPauseMs: proto.Uint32(700)},
			&pb.MigrationOptions{Streams: proto.Uint32(4), Bandwidth: proto.Uint64(1 << 20), Compression: proto.String("off"), MaxPauseMs: proto.Uint32(700)},
		},
	} {
		if got := optionsOf(s, test.own); !proto.Equal(got, test.want) {
			t.Errorf("%s: %v, not %v", name, got, test.want)
		}
	}
	if got := s.Cluster.Migration.Options.GetStreams(); got != 4 {
		t.Errorf("the cluster's settings have changed: %d streams", got)
	}
}

// TestPart: a node's bandwidth is parted among what leaves it, and none may use more
// than its own limit.
func TestPart(t *testing.T) {
	for _, test := range []struct {
		all, own int64
		among    int
		want     int64
	}{
		{0, 0, 3, 0}, {0, 7, 3, 7}, {90, 0, 3, 30}, {90, 7, 3, 7}, {90, 70, 3, 30}, {2, 0, 3, 1},
	} {
		if got := part(test.all, test.among, test.own); got != test.want {
			t.Errorf("part(%d, %d, %d) = %d, not %d", test.all, test.among, test.own, got, test.want)
		}
	}
}
