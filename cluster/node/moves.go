package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"sync"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/migration/agent"
	"quorate/migration/migrationpb"
	"quorate/resources/vm"
)

// keepMoves is how many ended migrations a node remembers.
const keepMoves = 100

// moves are the migrations from and to this node.
type moves struct {
	m      *member
	server *agent.Server

	mu      sync.Mutex
	sources map[string]*agent.Source // by machine
	coming  map[string]bool
	updates map[uint64]*apipb.MigrationUpdate
	order   []uint64
}

func newMoves(m *member) (*moves, error) {
	v := &moves{m: m, sources: map[string]*agent.Source{}, coming: map[string]bool{}, updates: map[uint64]*apipb.MigrationUpdate{}}
	var err error
	v.server, err = agent.NewServer(agent.ServerConfig{Prepare: v.prepare, Owner: v.ownerAtTarget, Finished: v.finished, Log: m.log.Named("migration")})
	return v, err
}

func (v *moves) close() { v.server.Close() }

// moving names the machines that are in a migration's hands.
func (v *moves) moving() map[string]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := map[string]bool{}
	for name := range v.sources {
		out[name] = true
	}
	for name := range v.coming {
		out[name] = true
	}
	return out
}

// groupNow reads a group linearizably.
func (m *member) groupNow(ctx context.Context, name string) (*pb.Group, error) {
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	var g *pb.Group
	m.db.view(func(s *pb.State) {
		if have := s.Groups[name]; have != nil {
			g = proto.Clone(have).(*pb.Group)
		}
	})
	if g == nil {
		return nil, fmt.Errorf("there is no group %q", name)
	}
	return g, nil
}

// prepare makes the process that receives a machine, if the database wants it
// here.
func (v *moves) prepare(ctx context.Context, o *migrationpb.Offer) (agent.QEMU, error) {
	g, err := v.m.groupNow(ctx, o.Vm)
	if err != nil {
		return nil, err
	}
	if g.Migration == nil || g.Migration.To != v.m.id.NodeID || g.Epoch != o.Epoch {
		return nil, fmt.Errorf("%s is not to be moved here at epoch %d", o.Vm, o.Epoch)
	}
	settings, err := vm.Parse(o.Settings)
	if err != nil {
		return nil, fmt.Errorf("the settings that %s runs by: %w", o.Vm, err)
	}
	v.mu.Lock()
	v.coming[o.Vm] = true
	v.mu.Unlock()
	mc, err := v.m.host.StartIncoming(ctx, settings, filepath.Join(v.m.n.opt.StorageDir, g.Volume, g.Folder))
	if err != nil {
		v.mu.Lock()
		delete(v.coming, o.Vm)
		v.mu.Unlock()
		return nil, err
	}
	v.m.agent.adopt(mc)
	return mc, nil
}

// finished takes in how a migration to this node ended.
func (v *moves) finished(o *migrationpb.Offer, outcome migration.TargetOutcome, reason string) {
	v.m.log.Info("migration to this node ended", zap.String("machine", o.Vm), zap.Stringer("outcome", outcome), zap.String("reason", reason))
	v.mu.Lock()
	delete(v.coming, o.Vm)
	v.mu.Unlock()
	if outcome == migration.TargetRuns {
		if mc := v.m.agent.machine(o.Vm); mc != nil {
			if err := mc.Announce(v.m.ctx); err != nil {
				v.m.log.Warn("the machine could not be announced", zap.String("machine", o.Vm), zap.Error(err))
			}
		}
	}
	v.m.agent.poke()
}

func (v *moves) ownerAtTarget(ctx context.Context, o *migrationpb.Offer) (migration.Owner, error) {
	g, err := v.m.groupNow(ctx, o.Vm)
	if err != nil {
		return migration.OwnerUnknown, err
	}
	switch {
	case g.Owner == v.m.id.NodeID && g.Epoch > o.Epoch:
		return migration.OwnerSelf, nil
	case g.Epoch == o.Epoch:
		return migration.OwnerPeer, nil
	}
	return migration.OwnerElse, nil
}

// run drives a migration from this node.
func (v *moves) run(ctx context.Context, act cluster.MoveMachine) error {
	mc := v.m.agent.machine(act.Group)
	if mc == nil {
		return v.end(ctx, act, "the machine is gone")
	}
	var from, to, host string
	var port uint64
	var folder string
	v.m.db.view(func(s *pb.State) {
		src, dst := s.Nodes[act.From], s.Nodes[act.To]
		if g := s.Groups[act.Group]; g != nil && dst != nil && src != nil {
			from, to, host, port, folder = src.Name, dst.Name, migrationAddress(s, src, dst), dst.ApiPort, filepath.Join(v.m.n.opt.StorageDir, g.Volume, g.Folder)
		}
	})
	if host == "" {
		return v.end(ctx, act, fmt.Sprintf("this node shares no network with %s", to))
	}
	settings, err := mc.Settings().Encode()
	if err != nil {
		return v.end(ctx, act, err.Error())
	}
	up := &apipb.MigrationUpdate{Id: act.Migration, Vm: act.Group, From: from, To: to, Phase: "prepare"}
	v.publish(up)
	src, err := agent.NewSource(agent.SourceConfig{
		ID:      v.m.id.ClusterID + "/" + strconv.FormatUint(act.Migration, 10),
		Offer:   &migrationpb.Offer{Vm: act.Group, Folder: folder, Epoch: act.Epoch, Source: from, Settings: bytes.Clone(settings)},
		Machine: mc,
		Dial: func(ctx context.Context) (net.Conn, error) {
			return v.m.dial(ctx, act.To, net.JoinHostPort(host, strconv.FormatUint(port, 10)), alpnMigrate)
		},
		Switch:   v.switcher(act),
		Progress: func(p migration.Progress) { v.progress(act.Migration, p) },
		Log:      v.m.log.Named("migration"),
	})
	if err != nil {
		return v.end(ctx, act, err.Error())
	}
	v.mu.Lock()
	v.sources[act.Group] = src
	v.mu.Unlock()
	res := src.Run(ctx)
	v.mu.Lock()
	delete(v.sources, act.Group)
	v.mu.Unlock()
	v.m.log.Info("migration ended", zap.String("machine", act.Group), zap.String("to", to), zap.Stringer("outcome", res.Outcome),
		zap.String("reason", res.Reason), zap.Duration("total", res.Total), zap.Duration("pause", res.Pause))
	v.result(act.Migration, res)
	if res.Outcome == migration.Moved || res.Outcome == migration.MovedUnseen || res.Outcome == migration.OutcomeNone {
		return nil
	}
	return v.end(ctx, act, res.Reason)
}

// end tells the database that a migration is over and the machine stays.
func (v *moves) end(ctx context.Context, act cluster.MoveMachine, reason string) error {
	v.mu.Lock()
	if up := v.updates[act.Migration]; up == nil || !up.Done {
		v.mu.Unlock()
		v.publish(&apipb.MigrationUpdate{Id: act.Migration, Vm: act.Group, Done: true, Result: "failed", Reason: reason})
	} else {
		v.mu.Unlock()
	}
	_, err := v.m.propose(ctx, &pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: act.Group, Id: act.Migration, Reason: reason}}})
	return err
}

// switcher proposes that ownership passes. Asked again, it proposes the same
// command, which counts once; "refused" is only answered when the database says
// so after everything that was proposed.
func (v *moves) switcher(act cluster.MoveMachine) func(context.Context) (migration.Answer, error) {
	cmd := &pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: act.Group, Id: act.Migration, Epoch: act.Epoch}}}
	first := true
	return func(ctx context.Context) (migration.Answer, error) {
		var err error
		if first {
			first = false
			_, err = v.m.propose(ctx, cmd)
		} else {
			_, err = v.m.proposeAgain(ctx, cmd)
		}
		var refused *RefusedError
		switch {
		case err == nil:
			return migration.AnswerCommitted, nil
		case errors.As(err, &refused):
			return v.refused(ctx, act)
		}
		return migration.AnswerUnknown, err
	}
}

// refused finds out who owns the machine after a refusal.
func (v *moves) refused(ctx context.Context, act cluster.MoveMachine) (migration.Answer, error) {
	g, err := v.m.groupNow(ctx, act.Group)
	if err != nil {
		return migration.AnswerUnknown, err
	}
	switch {
	case g.Owner == act.From && g.Epoch == act.Epoch:
		return migration.AnswerRefused, nil
	case g.Owner == act.To && g.Epoch == act.Epoch+1:
		return migration.AnswerCommitted, nil
	}
	return migration.AnswerSuperseded, nil
}

// cancel asks a migration to end; where none runs here, it is over already.
func (v *moves) cancel(ctx context.Context, name string) error {
	v.mu.Lock()
	src := v.sources[name]
	v.mu.Unlock()
	if src != nil {
		src.Cancel("cancelled by the administrator")
		return nil
	}
	var id uint64
	v.m.db.view(func(s *pb.State) { id = s.Groups[name].GetMigration().GetId() })
	return v.end(ctx, cluster.MoveMachine{Group: name, Migration: id}, "cancelled by the administrator")
}

// recover puts a process right that an earlier clusterd left behind.
func (v *moves) recover(ctx context.Context, act cluster.RecoverMachine) error {
	mc := v.m.agent.machine(act.Group)
	if mc == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	done, err := agent.Recover(ctx, mc, act.Incoming, func(ctx context.Context) (migration.Owner, error) {
		g, err := v.m.groupNow(ctx, act.Group)
		switch {
		case err != nil:
			return migration.OwnerUnknown, err
		case g.Owner == v.m.id.NodeID && g.Migration != nil:
			// A switch that was proposed before must not come through any more.
			cmd := &pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: act.Group, Id: g.Migration.Id, Reason: "clusterd was restarted"}}}
			_, err := v.m.propose(ctx, cmd)
			return migration.OwnerUnknown, err
		case g.Owner == v.m.id.NodeID:
			return migration.OwnerSelf, nil
		case g.Migration != nil && g.Migration.To == v.m.id.NodeID:
			return migration.OwnerPeer, nil
		}
		return migration.OwnerElse, nil
	})
	if err == nil && done == migration.ActLeave {
		// Said once, and looked at again in a while.
		return fmt.Errorf("the process of %s was left as it is, though it did not run: look at its console", act.Group)
	}
	v.m.log.Info("machine recovered", zap.String("name", act.Group), zap.Stringer("action", done), zap.Error(err))
	return err
}

func (v *moves) publish(up *apipb.MigrationUpdate) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.updates[up.Id] == nil {
		v.order = append(v.order, up.Id)
		if len(v.order) > keepMoves {
			delete(v.updates, v.order[0])
			v.order = v.order[1:]
		}
	}
	v.updates[up.Id] = up
}

func (v *moves) change(id uint64, f func(*apipb.MigrationUpdate)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if old := v.updates[id]; old != nil {
		up := proto.Clone(old).(*apipb.MigrationUpdate)
		f(up)
		v.updates[id] = up
	}
}

func (v *moves) progress(id uint64, p migration.Progress) {
	v.change(id, func(up *apipb.MigrationUpdate) {
		up.Phase, up.Bytes, up.Rounds, up.Rate, up.Remaining, up.DirtyRate = p.Phase.String(), p.Sent, p.Rounds, p.Rate, p.Remaining, p.Dirty
		up.TotalMs, up.ExpectedMs = p.Elapsed.Milliseconds(), p.Expected.Milliseconds()
	})
}

func (v *moves) result(id uint64, r agent.Result) {
	v.change(id, func(up *apipb.MigrationUpdate) {
		up.Done, up.Reason, up.Bytes, up.Rounds = true, r.Reason, r.Bytes, r.Rounds
		up.TotalMs, up.PauseUs, up.QemuPauseMs = r.Total.Milliseconds(), r.Pause.Microseconds(), r.QEMUPause.Milliseconds()
		switch r.Outcome {
		case migration.Moved, migration.MovedUnseen:
			up.Result = "completed"
		case migration.OutcomeNone:
			up.Result = "unknown"
		default:
			up.Result = "failed"
		}
	})
}

// list returns how migrations stand; one, where id is not 0.
func (v *moves) list(id uint64) []*apipb.MigrationUpdate {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []*apipb.MigrationUpdate
	for _, k := range v.order {
		if id == 0 || k == id {
			out = append(out, v.updates[k])
		}
	}
	return out
}
