package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/disk"
	"quorate/internal/mutant"
	"quorate/resources/vm"
)

// Bounds of actions.
const (
	attachTimeout = 20 * time.Second
	fenceTimeout  = 60 * time.Second
	startTimeout  = 60 * time.Second
	// addressTimeout has room for the kernel's own look for a duplicate (IPv6).
	addressTimeout = 15 * time.Second
	// stopGrace is for how long a guest may shut down before it is ended.
	stopGrace = 60 * time.Second
)

// do carries one action out. A *RefusedError says that the world has moved on, or
// not yet: nothing is wrong, but doing the same again at once would not help.
func (a *nodeAgent) do(ctx context.Context, act cluster.Action) error {
	switch act := act.(type) {
	case cluster.Configure:
		return a.configure(ctx, act)
	case cluster.Release:
		return a.release(ctx, act)
	case cluster.Attach:
		return a.attach(ctx, act)
	case cluster.Coordinate:
		return a.ask(ctx, attachTimeout, func(ctx context.Context) error {
			_, err := a.keeper.Coordinate(ctx, connect.NewRequest(&keeperpb.CoordinateRequest{Volume: act.Volume, Epoch: act.Epoch, Evicted: act.Evicted, Supplant: act.Supplant}))
			return err
		})
	case cluster.CloseVolume:
		return a.closeVolume(ctx, act)
	case cluster.Relinquish:
		return a.ask(ctx, attachTimeout, func(ctx context.Context) error {
			_, err := a.keeper.Relinquish(ctx, connect.NewRequest(&keeperpb.RelinquishRequest{Volume: act.Volume, Epoch: act.Epoch}))
			return err
		})
	case cluster.FenceDisk:
		return a.fence(ctx, act)
	case cluster.HoldAddress:
		return a.hold(ctx, act)
	case cluster.DropAddress:
		return a.ask(ctx, addressTimeout, func(ctx context.Context) error {
			_, err := a.keeper.DropAddress(ctx, connect.NewRequest(&keeperpb.DropAddressRequest{Address: act.Address}))
			return err
		})
	case cluster.StartMachine:
		return a.start(ctx, act)
	case cluster.SaveMachine:
		return a.save(ctx, act)
	case cluster.StopMachine:
		return a.stop(ctx, act)
	case cluster.KillMachine:
		return a.kill(ctx, act)
	case cluster.ResumeMachine:
		if mc := a.machine(act.Group); mc != nil {
			return mc.Cont(ctx)
		}
		return nil
	case cluster.RecoverMachine:
		return a.m.moves.recover(ctx, act)
	case cluster.MoveMachine:
		return a.m.moves.run(ctx, act)
	case cluster.MoveStorage:
		return a.storage.move(ctx, act)
	case cluster.CleanStorage:
		return a.storage.clean(ctx, act)
	case cluster.CancelMove:
		return a.m.moves.cancel(ctx, act.Group)
	case cluster.Report:
		_, err := a.m.propose(ctx, act.Command)
		return err
	}
	return fmt.Errorf("nothing knows how to %T", act)
}

func (a *nodeAgent) ask(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return f(ctx)
}

// configure tells noded who it is. What it holds of an earlier epoch goes first.
func (a *nodeAgent) configure(ctx context.Context, act cluster.Configure) error {
	return a.ask(ctx, attachTimeout, func(ctx context.Context) error {
		st, err := a.keeper.Status(ctx, connect.NewRequest(&keeperpb.StatusRequest{}))
		if err != nil {
			return err
		}
		if st.Msg.NodeEpoch != 0 && st.Msg.NodeEpoch != act.Epoch {
			if err := a.stopAll(ctx); err != nil {
				return err
			}
		}
		_, err = a.keeper.Configure(ctx, connect.NewRequest(&keeperpb.ConfigureRequest{
			ClusterId: a.m.id.ClusterID, NodeId: a.m.id.NodeID, NodeName: a.m.id.NodeName, NodeEpoch: act.Epoch, LeasePeers: act.Peers,
			LeaseMs: cmp.Or(act.Lease, a.m.named.Lease).Milliseconds(), HeartbeatMs: cmp.Or(act.Beat, a.m.named.LeaseBeat).Milliseconds(),
		}))
		return err
	})
}

// stopAll stops everything that this node has by its epoch, machines that are being
// started too: when it returns nil nothing of that epoch runs or will.
func (a *nodeAgent) stopAll(ctx context.Context) error {
	if _, err := a.keeper.Release(ctx, connect.NewRequest(&keeperpb.ReleaseRequest{})); err != nil {
		return err
	}
	return a.starting.wait(ctx)
}

// release gives up everything at this epoch and says so.
func (a *nodeAgent) release(ctx context.Context, act cluster.Release) error {
	return a.ask(ctx, attachTimeout, func(ctx context.Context) error {
		if err := a.stopAll(ctx); err != nil {
			return err
		}
		reason := "it had lost its lease, and stopped everything"
		if act.Leaving {
			reason = "it leaves the cluster, and stopped everything"
		}
		_, err := a.m.propose(ctx, &pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{
			Node: a.m.id.NodeID, Epoch: act.Epoch, Fencer: a.m.id.NodeID, Reason: reason, SaidStopped: true,
		}}})
		return err
	})
}

func (a *nodeAgent) attach(ctx context.Context, act cluster.Attach) error {
	if act.Directory != "" {
		return a.ask(ctx, attachTimeout, func(ctx context.Context) error {
			_, err := a.keeper.Attach(ctx, connect.NewRequest(&keeperpb.AttachRequest{
				Volume: act.Volume, Path: filepath.Join(a.m.n.opt.StorageDir, act.Volume), Epoch: act.Epoch, Directory: act.Directory, Id: act.DirectoryID,
			}))
			return err
		})
	}
	var url string
	var addrs []string
	a.m.db.view(func(s *pb.State) {
		url = diskURL(s.Disks[act.Disk], a.m.id.NodeID)
		if n := s.Nodes[act.Coordinator]; n != nil {
			addrs = cluster.Endpoints(s, n, n.KeeperPort)
		}
	})
	err := a.ask(ctx, attachTimeout, func(ctx context.Context) error {
		_, err := a.keeper.Attach(ctx, connect.NewRequest(&keeperpb.AttachRequest{
			Volume: act.Volume, Id: act.Disk, Lun: a.m.lun(url), Path: filepath.Join(a.m.n.opt.StorageDir, act.Volume), Key: act.Key,
			Type: uint32(disk.WriteExclusiveRegistrantsOnly), Coordinator: &keeperpb.Coordinator{NodeId: act.Coordinator, Addrs: addrs}, Epoch: act.Epoch,
		}))
		return err
	})
	if err == nil {
		a.mu.Lock()
		a.keys[act.Volume] = act.Key
		a.mu.Unlock()
	}
	return err
}

// lun is how noded reaches a disk: as this node's initiator.
func (m *member) lun(url string) *keeperpb.Lun {
	c := m.n.san.CHAP(url)
	return &keeperpb.Lun{
		Url: url, InitiatorName: m.n.san.InitiatorName(),
		ChapUser: c.User, ChapPassword: c.Password, ChapPeerUser: c.PeerUser, ChapPeerPassword: c.PeerPassword,
	}
}

// fence removes a dead node's key from a disk, and proposes the proof.
func (a *nodeAgent) fence(ctx context.Context, act cluster.FenceDisk) error {
	return a.ask(ctx, fenceTimeout, func(ctx context.Context) error {
		began := time.Now()
		res, err := a.keeper.FenceKey(ctx, connect.NewRequest(&keeperpb.FenceKeyRequest{Volume: act.Volume, VictimKey: act.VictimKey, VictimNode: act.Node}))
		if err != nil {
			return err
		}
		a.m.log.Info("fenced", zap.String("volume", act.Volume), zap.Uint64("node", act.Node), zap.Duration("took", time.Since(began)))
		_, err = a.m.propose(ctx, &pb.Command{Kind: &pb.Command_FenceProof{FenceProof: &pb.FenceProof{Node: act.Node, Epoch: act.Epoch, Proof: &pb.Proof{
			Kind: pb.ProofKind_PROOF_KIND_KEYS_REMOVED, Disk: act.Disk, Generation: res.Msg.Generation, AtMs: time.Now().UnixMilli(),
		}}}})
		return err
	})
}

func (a *nodeAgent) groupReport(name string, epoch uint64, state pb.GroupState, detail string) *pb.Command {
	st := &pb.GroupStatus{State: state, Node: a.m.id.NodeID, Epoch: epoch, Detail: detail}
	if mc := a.machine(name); mc != nil && state == pb.GroupState_GROUP_STATE_ONLINE {
		st.CpuModel, st.CpuFrom = mc.Settings().CPUModel, mc.Settings().CPUFrom
		if networks := networksOf(mc.Settings()); len(networks) > 0 {
			st.Cards = &pb.Cards{Networks: networks}
		}
	}
	return &pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: name, Status: st}}}
}

// hold commits that the cluster's address is here, and has noded put it there. One
// that is refused is tried again by Act, later and later.
func (a *nodeAgent) hold(ctx context.Context, act cluster.HoldAddress) error {
	if _, err := a.m.propose(ctx, a.groupReport(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_STARTING, "")); err != nil {
		return err
	}
	err := a.ask(ctx, addressTimeout, func(ctx context.Context) error {
		_, err := a.keeper.HoldAddress(ctx, connect.NewRequest(&keeperpb.HoldAddressRequest{
			Address: act.Address, Subnet: act.Subnet, ToleratedMacs: act.Tolerated, NodeEpoch: act.NodeEpoch,
		}))
		return err
	})
	if err == nil || a.m.ctx.Err() != nil {
		return err // Act sees that it is here, and reports it
	}
	var said *connect.Error
	detail := err.Error()
	if errors.As(err, &said) {
		detail = said.Message()
	}
	_, perr := a.m.propose(ctx, a.groupReport(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_FAILED, detail))
	return errors.Join(err, perr)
}

// start commits that the machine starts here, which is what authorises it, and
// starts it, or has it go on from its saved state.
func (a *nodeAgent) start(ctx context.Context, act cluster.StartMachine) error {
	limit := startTimeout
	if act.Saved != 0 {
		limit = stateTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := a.groupReport(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_STARTING, "")
	cmd.GetGroupReport().Saved = act.Saved
	res, err := a.m.propose(ctx, cmd)
	if err != nil {
		return err
	}
	folder := a.m.homeOf(act.Group) // after the commit: it does not move elsewhere before it runs
	began := time.Now()
	err = a.startProcess(ctx, folder, act, res.Number)
	if err == nil {
		a.m.log.Info("machine started", zap.String("name", act.Group), zap.Uint64("epoch", act.Epoch), zap.Uint64("saved", act.Saved), zap.Duration("took", time.Since(began)))
		_, err = a.m.propose(ctx, a.groupReport(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_ONLINE, ""))
		return err
	}
	if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		cmd := a.groupReport(act.Group, act.Epoch, pb.GroupState_GROUP_STATE_FAILED, err.Error())
		if errors.Is(err, vm.ErrState) {
			cmd.GetGroupReport().Saved = act.Saved
		}
		_, perr := a.m.propose(a.m.ctx, cmd)
		err = errors.Join(err, perr)
	}
	return fmt.Errorf("start %s: %w", act.Group, err)
}

// homeOf is the folder that a machine lives in, as this replica has it.
func (m *member) homeOf(group string) (folder string) {
	m.db.view(func(s *pb.State) {
		g := s.Groups[group]
		folder = filepath.Join(m.n.opt.StorageDir, g.GetVolume(), g.GetFolder())
	})
	return folder
}

// startProcess starts a machine while noded keeps the node's epoch. The process is
// ended again where that was over before it was there: stopAll has waited for it. attempt
// is what a saved state is used up by.
func (a *nodeAgent) startProcess(ctx context.Context, folder string, act cluster.StartMachine, attempt uint64) error {
	defer a.starting.begin()()
	if err := a.keeps(ctx, act.NodeEpoch); err != nil {
		return err
	}
	a.clearStates(folder, act.Group)
	var mc *vm.Machine
	var err error
	if act.Saved == 0 {
		var settings vm.Settings
		if settings, err = vm.Load(folder); err == nil {
			mc, err = a.m.host.Start(ctx, a.m.withProcessor(ctx, settings), folder)
		}
	} else {
		mc, err = a.restore(ctx, folder, act, attempt)
	}
	if err != nil {
		return err
	}
	if err := a.keeps(ctx, act.NodeEpoch); err != nil {
		return errors.Join(err, mc.Kill(a.m.ctx))
	}
	a.adopt(mc)
	return nil
}

// keeps tells why noded does not keep the node's epoch any more.
func (a *nodeAgent) keeps(ctx context.Context, nodeEpoch uint64) error {
	return a.ask(ctx, keeperTimeout, func(ctx context.Context) error {
		st, err := a.keeper.Status(ctx, connect.NewRequest(&keeperpb.StatusRequest{}))
		if err != nil {
			return err
		}
		if st.Msg.NodeEpoch != nodeEpoch && !mutant.On("epoch ignored") || !st.Msg.Lease.GetValid() {
			return fmt.Errorf("the node's epoch %d is over: noded is %s at epoch %d", nodeEpoch, st.Msg.State, st.Msg.NodeEpoch)
		}
		return nil
	})
}

// starts counts the machines that are being started.
type starts struct {
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n comes to 0, while somebody waits
}

// begin counts one more, until end.
func (s *starts) begin() (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.n--; s.n == 0 && s.none != nil {
			close(s.none)
			s.none = nil
		}
	}
}

// wait returns nil when there is none.
func (s *starts) wait(ctx context.Context) error {
	s.mu.Lock()
	if s.n == 0 {
		s.mu.Unlock()
		return nil
	}
	if s.none == nil {
		s.none = make(chan struct{})
	}
	none := s.none
	s.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a machine is still being started: %w", ctx.Err())
	}
}

func (a *nodeAgent) stop(ctx context.Context, act cluster.StopMachine) error {
	mc := a.machine(act.Group)
	if mc == nil {
		return nil
	}
	if act.Hard {
		return mc.Quit(ctx)
	}
	forced, err := mc.Stop(ctx, stopGrace)
	if forced {
		a.m.log.Warn("the guest did not shut down and was ended", zap.String("machine", act.Group), zap.Duration("after", stopGrace))
	}
	return err
}

func (a *nodeAgent) kill(ctx context.Context, act cluster.KillMachine) error {
	mc := a.machine(act.Group)
	if mc == nil {
		return nil
	}
	a.m.log.Warn("a process of a machine that is not this node's is ended", zap.String("machine", act.Group), zap.String("why", act.Why))
	return mc.Kill(ctx)
}
