package cluster

import (
	"cmp"
	"fmt"
	"slices"

	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// How many machines move at once from and to a node: as many as this where nothing
// else is set, and never more than MaxMovesAtOnce.
const (
	defaultMoves   = 2
	MaxMovesAtOnce = 16
)

// MovesOut is how many machines may move from a node at once.
func MovesOut(s *pb.State) int { return atOnce(s.GetCluster().GetMigration().GetOut()) }

// MovesIn is how many machines may move to a node at once.
func MovesIn(s *pb.State) int { return atOnce(s.GetCluster().GetMigration().GetIn()) }

func atOnce(n uint32) int {
	if n == 0 {
		return defaultMoves
	}
	return int(n)
}

// migrationOptions says what is wrong with them.
func migrationOptions(o *pb.MigrationOptions) error {
	if o.GetStreams() > migration.MaxStreams {
		return fmt.Errorf("%d streams are too many: at most %d are of use", o.GetStreams(), migration.MaxStreams)
	}
	if _, err := migration.ParseCompression(o.GetCompression()); err != nil {
		return err
	}
	if _, err := migration.ParseRemedies(o.GetRemedies()); err != nil {
		return err
	}
	if o.GetBandwidth() > maxRate || o.GetMaxBandwidth() > maxRate {
		return fmt.Errorf("a bandwidth of more than %d bytes a second is none", uint64(maxRate))
	}
	if o.GetMaxBandwidth() > 0 && o.GetMaxBandwidth() < o.GetBandwidth() {
		return fmt.Errorf("a copy that does not settle would get %d bytes a second, less than the %d that it has", o.GetMaxBandwidth(), o.GetBandwidth())
	}
	return nil
}

// maxRate is the most that a bandwidth can be, in bytes a second.
const maxRate = 1 << 40

// Queued is a migration in the queue.
type Queued struct {
	Group     string
	Migration *pb.Migration
	// Waits says why it has not begun and does not now; empty for one that is
	// under way or may begin.
	Waits string
}

// MigrationQueue is all migrations: those under way first, then those that wait, in
// the order in which they go. A database of before format 4 has no queue: there all
// are under way.
func MigrationQueue(s *pb.State) []Queued { return migrationQueue(s, HoldingsOf(s)) }

func migrationQueue(s *pb.State, h *Holdings) []Queued {
	q := newQueue(s, h)
	var out []Queued
	for _, g := range h.migrating(s) {
		out = append(out, Queued{Group: g.Name, Migration: g.Migration})
	}
	urgent := func(q Queued) int { return urgency(s.Groups[q.Group]) }
	slices.SortFunc(out, func(a, b Queued) int {
		if x, y := underWay(s, a.Migration), underWay(s, b.Migration); x != y {
			if x {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.Migration.Priority, a.Migration.Priority), cmp.Compare(urgent(a), urgent(b)), cmp.Compare(a.Migration.Id, b.Migration.Id))
	})
	for i := range out {
		if m := out[i].Migration; !underWay(s, m) {
			if out[i].Waits = q.blocked(m); out[i].Waits == "" {
				q.take(m)
			}
		}
	}
	return out
}

// underWay tells whether a migration is out of the queue.
func underWay(s *pb.State, m *pb.Migration) bool { return m.Begun || FormatOf(s) < queueFormat }

// queueFormat is the format of the database from which on migrations wait for one
// another.
const queueFormat = 4

// queue counts what is under way.
type queue struct {
	s       *pb.State
	out, in map[uint64]int
}

func newQueue(s *pb.State, h *Holdings) *queue {
	q := &queue{s: s, out: map[uint64]int{}, in: map[uint64]int{}}
	for _, g := range h.migrating(s) {
		if m := g.Migration; underWay(s, m) {
			q.take(m)
		}
	}
	return q
}

func (q *queue) take(m *pb.Migration) {
	q.out[m.From]++
	q.in[m.To]++
}

// blocked says why a migration cannot begin.
func (q *queue) blocked(m *pb.Migration) string {
	name := func(id uint64) string { return cmp.Or(q.s.Nodes[id].GetName(), fmt.Sprintf("node %d", id)) }
	if n := MovesOut(q.s); q.out[m.From] >= n {
		return fmt.Sprintf("%s sends %d, as many as may leave it at once", name(m.From), n)
	}
	if n := MovesIn(q.s); q.in[m.To] >= n {
		return fmt.Sprintf("%s receives %d, as many as may come to it at once", name(m.To), n)
	}
	return ""
}

// mayBegin are the machines whose migration from a node may begin now, with the
// migration.
func mayBegin(s *pb.State, h *Holdings, node uint64) map[string]*pb.Migration {
	var out map[string]*pb.Migration
	for _, w := range migrationQueue(s, h) {
		if w.Waits == "" && w.Migration.From == node && !underWay(s, w.Migration) {
			if out == nil {
				out = map[string]*pb.Migration{}
			}
			out[w.Group] = w.Migration
		}
	}
	return out
}
