package node

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// optionsIn are those of one migration.
func optionsIn(o *apipb.MigrationOptions) *pb.MigrationOptions {
	if o == nil {
		return nil
	}
	return &pb.MigrationOptions{
		Streams: o.Streams, Compression: o.Compression, Bandwidth: o.Bandwidth, MaxBandwidth: o.MaxBandwidth,
		Remedies: o.Remedies, MaxPauseMs: o.MaxPauseMs,
	}
}

// queuedMove is how a migration stands that waits for others, nil if it does not.
func (m *member) queuedMove(id uint64, name string) (up *apipb.MigrationUpdate) {
	m.db.view(func(s *pb.State) {
		if mig := s.Groups[name].GetMigration(); mig.GetId() != id {
			return
		}
		for _, q := range cluster.MigrationQueue(s) {
			if q.Group == name && q.Waits != "" {
				up = waiting(s, q)
			}
		}
	})
	return up
}

func waiting(s *pb.State, q cluster.Queued) *apipb.MigrationUpdate {
	mig := q.Migration
	return &apipb.MigrationUpdate{
		Id: mig.Id, Vm: q.Group, From: nameOf(s, mig.From), To: nameOf(s, mig.To), Phase: "queued", Waits: q.Waits,
		Priority: mig.Priority, AtMs: mig.StartedMs, ExpectedMs: -1,
	}
}

// MigrationList implements the service: what the database has under way, with what the
// sources say of it, and what they remember of others.
func (h *handlers) MigrationList(ctx context.Context, _ *connect.Request[apipb.MigrationListRequest]) (*connect.Response[apipb.MigrationListResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	ups, silent := m.allMoves(ctx)
	res := &apipb.MigrationListResponse{}
	m.db.view(func(s *pb.State) {
		for _, q := range cluster.MigrationQueue(s) {
			up := ups[q.Migration.Id]
			delete(ups, q.Migration.Id)
			switch {
			case up != nil && !up.Done:
				up.Priority = q.Migration.Priority
			default:
				up = waiting(s, q)
				if up.Waits == "" {
					up.Phase, up.Note = migration.PhasePrepare.String(), silent[q.Migration.From]
				}
			}
			res.Moves = append(res.Moves, up)
		}
	})
	ended := make([]*apipb.MigrationUpdate, 0, len(ups))
	for _, up := range ups {
		ended = append(ended, up)
	}
	slices.SortFunc(ended, func(a, b *apipb.MigrationUpdate) int {
		if a.Done != b.Done { // a move by saved state that is under way goes first
			if b.Done {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Id, a.Id)
	})
	res.Moves = append(res.Moves, ended...)
	return connect.NewResponse(res), nil
}

// allMoves asks all nodes for the moves that they drive or drove. silent says of the
// others why they did not answer.
func (m *member) allMoves(ctx context.Context) (ups map[uint64]*apipb.MigrationUpdate, silent map[uint64]string) {
	var nodes []*pb.Node
	m.db.view(func(s *pb.State) { nodes = sortedNodes(s) })
	ups, silent = map[uint64]*apipb.MigrationUpdate{}, map[uint64]string{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range nodes {
		if n.State != pb.NodeState_NODE_STATE_UP {
			continue
		}
		wg.Go(func() {
			list, err := m.movesAt(ctx, n.Id, 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[n.Id] = fmt.Sprintf("%s does not say how it stands: %v", n.Name, err)
			}
			for _, up := range list {
				ups[up.Id] = up
			}
		})
	}
	wg.Wait()
	return ups, silent
}

// MigrationCancel implements the service.
func (h *handlers) MigrationCancel(ctx context.Context, r *connect.Request[apipb.MigrationCancelRequest]) (*connect.Response[apipb.MigrationCancelResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	cmd := &pb.Command{Kind: &pb.Command_MigrationCancel{MigrationCancel: &pb.MigrationCancel{Group: r.Msg.Vm, Reason: "asked for by the administrator"}}}
	if _, err := m.propose(ctx, cmd); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.MigrationCancelResponse{}), nil
}

// MigrationSet implements the service.
func (h *handlers) MigrationSet(ctx context.Context, r *connect.Request[apipb.MigrationSetRequest]) (*connect.Response[apipb.MigrationSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	set := m.db.clone().Cluster.Migration
	if set == nil {
		set = &pb.MigrationSettings{}
	}
	if set.Options == nil {
		set.Options = &pb.MigrationOptions{}
	}
	changed := false
	changed = change(&set.Out, r.Msg.Out) || changed
	changed = change(&set.In, r.Msg.In) || changed
	changed = change(&set.NodeBandwidth, r.Msg.NodeBandwidth) || changed
	if o := r.Msg.Options; o != nil {
		changed = changeOption(&set.Options.Streams, o.Streams) || changed
		changed = changeOption(&set.Options.Compression, o.Compression) || changed
		changed = changeOption(&set.Options.Bandwidth, o.Bandwidth) || changed
		changed = changeOption(&set.Options.MaxBandwidth, o.MaxBandwidth) || changed
		changed = changeOption(&set.Options.Remedies, o.Remedies) || changed
		changed = changeOption(&set.Options.MaxPauseMs, o.MaxPauseMs) || changed
	}
	if changed {
		if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_MigrationSet{MigrationSet: &pb.MigrationSet{Settings: set}}}); err != nil {
			return nil, err
		}
	}
	res := &apipb.MigrationSettings{}
	m.db.view(func(s *pb.State) {
		o := s.Cluster.Migration.GetOptions()
		compression, remedies := cmp.Or(o.GetCompression(), string(migration.CompressAuto)), o.GetRemedies()
		if remedies == "" {
			remedies = remediesText(migration.DefaultRemedies())
		}
		streams, rate, most, pause := o.GetStreams(), o.GetBandwidth(), o.GetMaxBandwidth(), o.GetMaxPauseMs()
		res.Out, res.In, res.NodeBandwidth = uint32(cluster.MovesOut(s)), uint32(cluster.MovesIn(s)), s.Cluster.Migration.GetNodeBandwidth()
		res.Options = &apipb.MigrationOptions{Streams: &streams, Compression: &compression, Bandwidth: &rate, MaxBandwidth: &most, Remedies: &remedies, MaxPauseMs: &pause}
	})
	return connect.NewResponse(&apipb.MigrationSetResponse{Settings: res}), nil
}

func remediesText(list []migration.Remedy) string {
	words := make([]string, len(list))
	for i, r := range list {
		words[i] = string(r)
	}
	return strings.Join(words, ",")
}

// change takes what was given.
func change[T comparable](have, given *T) bool {
	if given == nil || *have == *given {
		return false
	}
	*have = *given
	return true
}

// changeOption takes what was given, where the default may stand.
func changeOption[T comparable](have **T, given *T) bool {
	if given == nil || *have != nil && **have == *given {
		return false
	}
	*have = given
	return true
}
