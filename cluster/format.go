package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
)

// Format is the newest format of the database that this build can. Nodes of
// adjacent versions run together: the database stays in the format that the oldest
// can until an administrator moves it on (ClusterUpgrade), and until then no command
// is committed that an older node would not understand.
//
// Whoever adds a kind of command, or a field or a value within one, raises Format,
// names what came in since, and runs the tests with -update. A rule of Apply that changes goes by FormatOf likewise: two
// versions that apply one command differently are two databases.
const Format = 6

// since tells in which format what is not of the first came, with all that is in it.
// ClusterUpgrade is not here: it is what moves the format, and asks the nodes.
var since = map[protoreflect.FullName]uint32{
	"quorate.cluster.v1.Command.volume_move":     2,
	"quorate.cluster.v1.Command.volume_released": 2,

	"quorate.cluster.v1.Command.disk_claim":                  3,
	"quorate.cluster.v1.Disk.claim":                          3,
	"quorate.cluster.v1.QuorumSet.claim":                     3,
	"quorate.cluster.v1.QuorumSet.witness_share":             3,
	"quorate.cluster.v1.QUORUM_MODE_NODE_AND_SHARE_MAJORITY": 3,
	"quorate.cluster.v1.VolumeAdd.claim":                     3,

	"quorate.cluster.v1.Command.volume_grown":       4,
	"quorate.cluster.v1.Command.volume_maintenance": 4,
	"quorate.cluster.v1.Command.volume_remove":      4,
	"quorate.cluster.v1.Command.volume_removed":     4,
	"quorate.cluster.v1.Command.volume_set":         4,
	"quorate.cluster.v1.VolumeReport.free":          4,
	"quorate.cluster.v1.VolumeAdd.directory":        4,
	"quorate.cluster.v1.VolumeAdd.directory_id":     4,
	"quorate.cluster.v1.VolumeAdd.epoch":            4,
	"quorate.cluster.v1.VolumeReport.close_epoch":   4,
	"quorate.cluster.v1.Command.migration_begin":    4,
	"quorate.cluster.v1.Command.migration_set":      4,
	"quorate.cluster.v1.MigrationStart.options":     4,
	"quorate.cluster.v1.MigrationStart.priority":    4,
	"quorate.cluster.v1.NetworkSet.migration_order": 4,

	"quorate.cluster.v1.ClusterSet.cpu_model":           5,
	"quorate.cluster.v1.Command.group_save":             5,
	"quorate.cluster.v1.Command.group_saved":            5,
	"quorate.cluster.v1.Command.group_save_end":         5,
	"quorate.cluster.v1.Command.group_resume":           5,
	"quorate.cluster.v1.Command.group_discard":          5,
	"quorate.cluster.v1.Command.group_move":             5,
	"quorate.cluster.v1.GroupRemove.discard_state":      5,
	"quorate.cluster.v1.VolumeMaintenance.save":         5,
	"quorate.cluster.v1.GroupReport.saved":              5,
	"quorate.cluster.v1.Command.virtual_network_set":    5,
	"quorate.cluster.v1.Command.virtual_network_remove": 5,
	"quorate.cluster.v1.Command.storage_move_start":     5,
	"quorate.cluster.v1.Command.storage_move_begin":     5,
	"quorate.cluster.v1.Command.storage_move_switch":    5,
	"quorate.cluster.v1.Command.storage_move_fail":      5,
	"quorate.cluster.v1.Command.storage_move_end":       5,

	"quorate.cluster.v1.Command.node_drain":    6,
	"quorate.cluster.v1.Command.node_drained":  6,
	"quorate.cluster.v1.Command.node_resume":   6,
	"quorate.cluster.v1.Command.drain_hold":    6,
	"quorate.cluster.v1.Command.drain_waits":   6,
	"quorate.cluster.v1.Command.node_returned": 6,
	"quorate.cluster.v1.Command.disarm":        6,
	"quorate.cluster.v1.Command.disarm_left":   6,
	"quorate.cluster.v1.Command.arm":           6,
	"quorate.cluster.v1.Command.node_held":     6,
	"quorate.cluster.v1.MigrationStart.drain":  6,

	"quorate.cluster.v1.Command.group_policy_set": 6,
	"quorate.cluster.v1.Command.affinity_set":     6,
	"quorate.cluster.v1.Command.affinity_remove":  6,
	"quorate.cluster.v1.MigrationStart.failback":  6,
}

// whole are the messages within commands that are kept as they come: what an older
// node does not know of them it keeps all the same.
var whole = map[protoreflect.FullName]bool{
	"quorate.cluster.v1.Node": true, "quorate.cluster.v1.NodeFacts": true, "quorate.cluster.v1.NodeAddress": true,
	"quorate.cluster.v1.Group": true, "quorate.cluster.v1.GroupStatus": true, "quorate.cluster.v1.VolumeStatus": true,
	"quorate.cluster.v1.Proof": true, "quorate.cluster.v1.Unreached": true,
}

// ErrTooNew says that a command or a snapshot is of a later version than this build. A
// replica that went on without it would be another database, so it ends; the machines
// of its node run on.
var ErrTooNew = errors.New("upgrade this node")

func tooNew(what string, a ...any) error {
	return fmt.Errorf("%s, and this node's version %s can format %d at most: %w", fmt.Sprintf(what, a...), Version, Format, ErrTooNew)
}

// FormatOf is the format of a database.
func FormatOf(s *pb.State) uint32 { return max(s.GetCluster().GetFormat(), 1) }

// FormatOfNode is the newest format that a node can, as it said last.
func FormatOfNode(n *pb.Node) uint32 { return max(n.GetFacts().GetFormat(), 1) }

// Reachable is the newest format that all nodes can. waits are the nodes that keep the
// cluster from the newest that any of them can.
func Reachable(s *pb.State) (format uint32, waits []string) {
	newest := FormatOf(s)
	for _, n := range s.Nodes {
		newest = max(newest, FormatOfNode(n))
	}
	format = newest
	for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
		n := s.Nodes[id]
		if can := FormatOfNode(n); can < newest {
			format = min(format, can)
			waits = append(waits, fmt.Sprintf("%s has version %s, which can format %d", n.Name, n.Facts.GetVersion(), can))
		}
	}
	return max(format, FormatOf(s)), waits
}

// Allowed refuses a command that the database's format does not have yet. Whoever
// proposes asks it first: once a command is in the log, a node that does not know it
// ends its replica.
func Allowed(s *pb.State, c *pb.Command) error {
	need, err := demand(c)
	if err != nil {
		return err
	}
	if s.GetCluster() != nil && need > FormatOf(s) {
		return errors.New(tooEarly(s, need))
	}
	return nil
}

func tooEarly(s *pb.State, need uint32) string {
	return fmt.Sprintf("this takes format %d of the database, which is of format %d: run `clusterctl cluster upgrade` when all nodes are of a version that can it (`clusterctl cluster show` says which cannot)", need, FormatOf(s))
}

// clusterUpgrade moves the database to a newer format, where every node can it.
func (d *Database) clusterUpgrade(c *pb.Command, k *pb.ClusterUpgrade) *pb.Result {
	from := FormatOf(d.s)
	if k.Format <= from {
		return refuse(pb.Code_CODE_REFUSED, "the database is of format %d already", from)
	}
	for _, id := range slices.Sorted(maps.Keys(d.s.Nodes)) {
		if n := d.s.Nodes[id]; FormatOfNode(n) < k.Format && !mutant.On("format ahead of a node") {
			return refuse(pb.Code_CODE_REFUSED, "node %s has version %s, which can format %d of the database at most, not %d: upgrade it first, or evict it", n.Name, n.Facts.GetVersion(), FormatOfNode(n), k.Format)
		}
	}
	d.s.Cluster.Format = k.Format
	d.event(c, Info, "cluster-upgraded", d.s.Cluster.Name, "the database is of format %d now, it was of %d: nodes of versions that cannot it get in no more", k.Format, from)
	return ok()
}

// demand is the format that a command takes. The error is ErrTooNew where this build
// does not understand it.
func demand(c *pb.Command) (format uint32, err error) {
	if u := c.GetClusterUpgrade(); u != nil && u.Format > Format {
		return 0, tooNew("the database goes on to format %d", u.Format)
	}
	return demanded(c.ProtoReflect())
}

// demanded looks at all that is set in a message.
func demanded(m protoreflect.Message) (format uint32, err error) {
	format = 1
	if raw := m.GetUnknown(); len(raw) > 0 {
		number, _, _ := protowire.ConsumeTag(raw)
		return 0, tooNew("it has the field %d of %s, which is of a later format", number, m.Descriptor().Name())
	}
	inner := func(m protoreflect.Message) {
		var need uint32
		need, err = demanded(m)
		format = max(format, need)
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		format = max(format, since[f.FullName()])
		switch {
		case f.Kind() == protoreflect.EnumKind && !f.IsList():
			value := f.Enum().Values().ByNumber(v.Enum())
			if value == nil {
				err = tooNew("it has the value %d of %s, which is of a later format", v.Enum(), f.FullName())
				return false
			}
			format = max(format, since[value.FullName()])
		case f.Message() == nil || f.IsMap() || whole[f.Message().FullName()]:
		case f.IsList():
			for i := 0; i < v.List().Len() && err == nil; i++ {
				inner(v.List().Get(i).Message())
			}
		default:
			inner(v.Message())
		}
		return err == nil
	})
	return format, err
}
