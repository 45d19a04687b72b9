package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/resources"
)

const (
	progressInterval = 200 * time.Millisecond
	// unheardFor is how long the source of a move that is under way may fail to
	// answer before its word is no longer waited for.
	unheardFor = 10 * time.Second
	// unheardOver is how often it may fail where the database has the move no
	// more: its source was lost and the machine failed over, or it did not begin.
	unheardOver = 2
)

// LiveMigrate implements the service: it begins a move and follows it.
func (h *handlers) LiveMigrate(ctx context.Context, r *connect.Request[apipb.LiveMigrateRequest], out *connect.ServerStream[apipb.MigrationUpdate]) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	if err := m.barrier(ctx); err != nil {
		return err
	}
	to, from, err := m.moveTarget(r.Msg.Vm, r.Msg.To)
	if err != nil {
		return err
	}
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: r.Msg.Vm, To: to, Options: optionsIn(r.Msg.Options), Priority: r.Msg.Priority}}})
	if err != nil {
		return err
	}
	return m.followMove(ctx, res.Number, from, r.Msg.Vm, out)
}

// moveTarget is the node that was named, or the best by placement.
func (m *member) moveTarget(name, node string) (to, from uint64, err error) {
	s := m.db.clone()
	g := s.Groups[name]
	if g == nil {
		return 0, 0, connect.NewError(connect.CodeNotFound, fmt.Errorf("%q is no highly available machine: see `clusterctl vm list`", name))
	}
	if node != "" {
		for id, n := range s.Nodes {
			if n.Name == node {
				return id, g.Owner, nil
			}
		}
		return 0, 0, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no node %q", node))
	}
	candidates := cluster.Candidates(s)
	for i := range candidates {
		if candidates[i].ID == g.Owner {
			candidates[i].Unfit = "it is there already"
		} else if candidates[i].Unfit != "" {
			continue
		} else if lacks := cluster.CannotRun(g, s.Nodes[candidates[i].ID]); lacks != "" {
			candidates[i].Unfit = fmt.Sprintf("it runs with the processor model %s, and %s", g.Status.CpuModel, lacks)
		} else {
			candidates[i].Unfit = cluster.NetworkLacks(s, g, s.Nodes[candidates[i].ID])
		}
	}
	cluster.Wish(s, g, candidates, time.Now())
	p := resources.Place(resources.Need{Group: name, Volume: g.Volume, MemoryMiB: g.MemoryMib}, candidates)
	if p.Node == 0 {
		return 0, 0, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot be moved: %s", name, p.Explain()))
	}
	return p.Node, g.Owner, nil
}

// movesAt asks a node for the moves that it drives or drove: one, or all with id 0.
func (m *member) movesAt(ctx context.Context, node, id uint64) ([]*apipb.MigrationUpdate, error) {
	if node == m.id.NodeID {
		return m.moves.list(id), nil
	}
	r, done, err := m.remoteTo(node)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	res, err := r.Migrations(ctx, connect.NewRequest(&apipb.MigrationsRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Moves, nil
}

// movesOf asks a node for a move that it drives.
func (m *member) movesOf(ctx context.Context, node, id uint64) (*apipb.MigrationUpdate, error) {
	list, err := m.movesAt(ctx, node, id)
	if err == nil && len(list) == 0 {
		err = errors.New("it has not begun")
	}
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// followMove sends how a move stands until it has ended.
func (m *member) followMove(ctx context.Context, id, from uint64, name string, out *connect.ServerStream[apipb.MigrationUpdate]) error {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	unheard, since := 0, time.Time{}
	for {
		up := m.queuedMove(id, name)
		var err error
		if up == nil {
			up, err = m.movesOf(ctx, from, id)
		}
		if err == nil {
			unheard = 0
			if err := out.Send(up); err != nil {
				return err
			}
			if up.Done {
				return nil
			}
		} else {
			if unheard++; unheard == 1 {
				since = time.Now()
			}
			if time.Since(since) >= unheardFor || unheard >= unheardOver && !m.underWay(id, name) {
				return out.Send(m.unheardMove(id, name, err))
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// underWay says whether the database has a move.
func (m *member) underWay(id uint64, name string) (is bool) {
	m.db.view(func(s *pb.State) { is = s.Groups[name].GetMigration().GetId() == id })
	return is
}

// unheardMove says what the database knows of a move whose source is silent.
func (m *member) unheardMove(id uint64, name string, err error) *apipb.MigrationUpdate {
	up := &apipb.MigrationUpdate{Id: id, Vm: name, Done: true, Result: "unknown", Reason: fmt.Sprintf("its source does not answer (%v): see `clusterctl events`", err)}
	m.db.view(func(s *pb.State) {
		if g := s.Groups[name]; g != nil && g.Migration == nil {
			up.Reason = fmt.Sprintf("its source does not answer; the machine is %s's now: see `clusterctl events`", nameOf(s, g.Owner))
		}
	})
	return up
}
