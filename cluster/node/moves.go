package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

	// parted is told that other machines leave this node than before.
	parted chan struct{}

	mu      sync.Mutex
	sources map[string]*sending // by machine
	coming  map[string]bool
	updates map[uint64]*apipb.MigrationUpdate
	order   []uint64
}

func newMoves(m *member) (*moves, error) {
	v := &moves{m: m, parted: make(chan struct{}, 1), sources: map[string]*sending{}, coming: map[string]bool{}, updates: map[uint64]*apipb.MigrationUpdate{}}
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

func (v *moves) ownerAtTarget(ctx context.Context, name string, o *migrationpb.Offer) (migration.Owner, error) {
	g, err := v.m.groupNow(ctx, o.Vm)
	if err != nil {
		return migration.OwnerUnknown, err
	}
	_, number, _ := strings.Cut(name, "/")
	id, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		id = 0 // named by a source of another version
	}
	return cluster.OwnerAtTarget(g, v.m.id.NodeID, o.Epoch, id), nil
}

// run drives a migration from this node.
func (v *moves) run(ctx context.Context, act cluster.MoveMachine) error {
	mc := v.m.agent.machine(act.Group)
	if mc == nil {
		return v.end(ctx, act, "the machine is gone")
	}
	if _, err := v.m.agent.storage.settle(ctx, act.Group); err != nil {
		return v.end(ctx, act, err.Error())
	}
	p, err := v.plan(ctx, act, mc)
	if err != nil {
		return v.end(ctx, act, err.Error())
	}
	src, err := agent.NewSource(p.config)
	if err != nil {
		return v.end(ctx, act, err.Error())
	}
	res, ran := v.drive(ctx, act, src, p)
	if !ran {
		return v.end(ctx, act, "cancelled: by the administrator")
	}
	v.m.log.Info("migration ended", zap.String("machine", act.Group), zap.String("to", p.to), zap.Stringer("outcome", res.Outcome),
		zap.String("reason", res.Reason), zap.Duration("total", res.Total), zap.Duration("pause", res.Pause), zap.Stringer("carriage", res.Carriage))
	v.result(act.Migration, res)
	if res.Outcome == migration.Moved || res.Outcome == migration.MovedUnseen || res.Outcome == migration.OutcomeNone {
		return nil
	}
	return v.end(ctx, act, res.Reason)
}

// drive runs a migration, unless it was cancelled while it was planned.
func (v *moves) drive(ctx context.Context, act cluster.MoveMachine, src *agent.Source, p *plan) (res agent.Result, ran bool) {
	over := false
	v.m.db.view(func(s *pb.State) {
		mig := s.Groups[act.Group].GetMigration()
		over = mig.GetId() != act.Migration || mig.GetCancel()
	})
	if over {
		return res, false
	}
	v.sending(act.Group, &sending{src, p.own})
	res = src.Run(ctx)
	v.sending(act.Group, nil)
	return res, true
}

// sending takes in what leaves this node, nil for nothing any more.
func (v *moves) sending(name string, s *sending) {
	v.mu.Lock()
	if s != nil {
		v.sources[name] = s
	} else {
		delete(v.sources, name)
	}
	v.mu.Unlock()
	select {
	case v.parted <- struct{}{}:
	default:
	}
}

// sending is a migration from this node.
type sending struct {
	*agent.Source
	own int64 // as in plan
}

// share parts what may leave this node among the migrations from it, whenever one begins
// or ends or an administrator sets another limit.
func (v *moves) share() {
	for v.m.ctx.Err() == nil {
		next := v.m.db.next()
		var all int64
		v.m.db.view(func(s *pb.State) { all = int64(s.GetCluster().GetMigration().GetNodeBandwidth()) })
		v.mu.Lock()
		now := slices.Collect(maps.Values(v.sources))
		v.mu.Unlock()
		for _, s := range now {
			s.LimitBandwidth(part(all, len(now), s.own))
		}
		select {
		case <-v.m.ctx.Done():
		case <-v.parted:
		case <-next:
		}
	}
}

// part is what one of so many migrations may use in a second; 0 is no limit, for all and
// for what it may use by itself too.
func part(all int64, among int, own int64) int64 {
	if all == 0 {
		return own
	}
	rate := max(1, all/int64(among))
	if own > 0 {
		rate = min(rate, own)
	}
	return rate
}

// tellEvent records something that the operator should know of a move.
func (v *moves) tellEvent(level, kind, subject, text string) {
	cmd := &pb.Command{Kind: &pb.Command_Note{Note: &pb.Note{Level: level, Kind: kind, Subject: subject, Text: text}}}
	if _, err := v.m.propose(v.m.ctx, cmd); err != nil && v.m.ctx.Err() == nil {
		v.m.log.Warn("an event could not be recorded", zap.String("event", text), zap.Error(err))
	}
}

// end tells the database that a migration is over and the machine stays.
func (v *moves) end(ctx context.Context, act cluster.MoveMachine, reason string) error {
	v.mu.Lock()
	if up := v.updates[act.Migration]; up == nil || !up.Done {
		v.mu.Unlock()
		v.publish(v.ended(up, act, reason))
	} else {
		v.mu.Unlock()
	}
	_, err := v.m.propose(ctx, &pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: act.Group, Id: act.Migration, Reason: reason}}})
	return err
}

// ended is how a move stands that came to its end before it began.
func (v *moves) ended(up *apipb.MigrationUpdate, act cluster.MoveMachine, reason string) *apipb.MigrationUpdate {
	out := &apipb.MigrationUpdate{Id: act.Migration, Vm: act.Group}
	if up != nil {
		out = proto.Clone(up).(*apipb.MigrationUpdate)
	}
	v.m.db.view(func(s *pb.State) {
		if out.From == "" {
			out.From, out.To = nameOf(s, act.From), nameOf(s, act.To)
		}
	})
	out.Done, out.Result, out.Reason, out.Phase = true, "failed", reason, migration.PhaseOver.String()
	return out
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
		src.Cancel("by the administrator")
		return nil
	}
	act := cluster.MoveMachine{Group: name}
	v.m.db.view(func(s *pb.State) {
		mig := s.Groups[name].GetMigration()
		act.Migration, act.From, act.To = mig.GetId(), mig.GetFrom(), mig.GetTo()
	})
	return v.end(ctx, act, "cancelled: by the administrator")
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
		if err != nil {
			return migration.OwnerUnknown, err
		}
		if cmd := cluster.Settle(g, v.m.id.NodeID); cmd != nil {
			_, err := v.m.propose(ctx, cmd)
			return migration.OwnerUnknown, err
		}
		return cluster.OwnerOfLeftover(g, v.m.id.NodeID, act.Incoming), nil
	})
	if err == nil && done == migration.ActLeave {
		// Said once, and looked at again in a while.
		return fmt.Errorf("the process of %s was left as it is, though it did not run: look at its console", act.Group)
	}
	v.m.agent.clearStates(mc.Folder(), act.Group) // of a save that came to nothing
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
		up.TotalMs, up.ExpectedMs, up.PauseLimitMs = p.Elapsed.Milliseconds(), p.Expected.Milliseconds(), p.PauseLimit.Milliseconds()
	})
}

func (v *moves) result(id uint64, r agent.Result) {
	v.change(id, func(up *apipb.MigrationUpdate) {
		up.Done, up.Reason, up.Bytes, up.Rounds, up.Phase = true, r.Reason, r.Bytes, r.Rounds, migration.PhaseOver.String()
		up.Carriage = r.Carriage.String()
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
