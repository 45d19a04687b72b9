package node

import (
	"context"
	"fmt"
	"os"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// QuickMigrate implements the service: it begins a move by saved state and follows it.
func (h *handlers) QuickMigrate(ctx context.Context, r *connect.Request[apipb.QuickMigrateRequest], out *connect.ServerStream[apipb.MigrationUpdate]) error {
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
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: r.Msg.Vm, To: to}}})
	if err != nil {
		return err
	}
	q := m.newQuick(r.Msg.Vm, res.Number, from, to)
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		up := q.look()
		if up.Phase == quickSave { // how far it is the source alone knows
			if there, err := m.movesOf(ctx, from, q.move); err == nil {
				up.Bytes, up.Rate = there.Bytes, there.Rate
			}
		}
		if err := out.Send(up); err != nil || up.Done {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// The phases of a move by saved state.
const (
	quickSave    = "save"
	quickSwitch  = "switch"
	quickRestore = "restore"
)

// quick is a move by saved state, as the database tells of it.
type quick struct {
	m          *member
	group      string
	save, move uint64
	from, to   uint64
	began      time.Time
	bytes      int64
}

func (m *member) newQuick(group string, save, from, to uint64) *quick {
	q := &quick{m: m, group: group, save: save, from: from, to: to, began: time.Now()}
	m.db.view(func(s *pb.State) {
		g := s.Groups[group]
		q.move = max(g.GetSaving().GetMove(), g.GetSaved().GetMove())
	})
	return q
}

// look is how it stands.
func (q *quick) look() *apipb.MigrationUpdate {
	up := &apipb.MigrationUpdate{Id: q.move, Vm: q.group, AtMs: q.began.UnixMilli(), TotalMs: time.Since(q.began).Milliseconds(), Carriage: "saved state", Bytes: q.bytes}
	q.m.db.view(func(s *pb.State) {
		up.From, up.To = nameOf(s, q.from), nameOf(s, q.to)
		g := s.Groups[q.group]
		if saved := g.GetSaved(); saved.GetId() == q.save {
			q.bytes = saved.Size
			up.Bytes = saved.Size
		}
		up.Phase = q.phase(g)
		if up.Phase == "" {
			up.Done, up.Phase = true, migration.PhaseOver.String()
			up.Result, up.Reason = q.ended(g, nameOf(s, g.GetOwner()))
			up.PauseUs = up.TotalMs * 1000 // it stood still nearly all the time
		}
	})
	return up
}

// phase is that of a move that is under way, or empty.
func (q *quick) phase(g *pb.Group) string {
	switch saved := g.GetSaved(); {
	case g.GetSaving().GetId() == q.save:
		return quickSave
	case saved.GetId() == q.save && saved.To != 0:
		return quickSwitch
	case saved.GetId() == q.save && g.Desire == pb.Desire_DESIRE_STARTED, saved == nil && g.GetResumed() != 0:
		return quickRestore
	}
	return ""
}

// ended is how a move came to its end.
func (q *quick) ended(g *pb.Group, owner string) (result, reason string) {
	switch {
	case g == nil:
		return "failed", "it was removed meanwhile"
	case g.Saved.GetFault() != "":
		return "failed", fmt.Sprintf("it is saved, on %s, and its state cannot be used: %s", owner, g.Saved.Fault)
	case g.Saved != nil:
		return "failed", fmt.Sprintf("it is saved, on %s: it was stopped meanwhile", owner)
	case g.NotSaved != "":
		return "failed", fmt.Sprintf("%s; it is on %s", g.NotSaved, owner)
	case g.Owner == q.to:
		return "completed", ""
	}
	return "failed", fmt.Sprintf("it is on %s: see `clusterctl events`", owner)
}

// follow keeps how a move from here stands for whoever lists moves, until it has ended.
// path is the state's file.
func (v *moves) follow(q *quick, path string) {
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		up := q.look()
		if info, err := os.Stat(path); err == nil && up.Phase == quickSave {
			up.Bytes, up.Rate = info.Size(), info.Size()*1000/max(1, up.TotalMs)
		}
		v.publish(up)
		if up.Done {
			return
		}
		select {
		case <-v.m.ctx.Done():
			return
		case <-tick.C:
		}
	}
}
