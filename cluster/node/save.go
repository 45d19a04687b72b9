package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/resources/vm"
)

// stateTimeout is how long saving a machine, or loading its state, may take.
const stateTimeout = 30 * time.Minute

// save writes a machine's state to its volume and commits that, in this order: the
// machine stands still; the file is durable; the commit; the end of the process. Where
// the commit's outcome is not known the process stands still until it is (RecoverMachine).
func (a *nodeAgent) save(ctx context.Context, act cluster.SaveMachine) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	mc := a.machine(act.Group)
	if mc == nil {
		return nil
	}
	g, err := a.m.groupNow(ctx, act.Group)
	if err != nil {
		return err
	}
	if g.Saving.GetId() != act.Save || g.Epoch != act.Epoch || g.Owner != a.m.id.NodeID {
		return nil // this replica was behind
	}
	if _, err := a.storage.settle(ctx, act.Group); err != nil {
		return err
	}
	folder := filepath.Join(a.m.n.opt.StorageDir, act.Volume, act.Folder)
	path := vm.StatePath(folder, act.Save)
	began := time.Now()
	if g.Saving.To != 0 {
		q := a.m.newQuick(act.Group, act.Save, a.m.id.NodeID, g.Saving.To)
		a.m.wg.Go(func() { a.m.moves.follow(q, path) })
	}
	cmd, err := a.write(ctx, mc, act, g.Saving.To, folder, path)
	if err != nil {
		return a.runOn(ctx, mc, act, err)
	}
	_, err = a.m.propose(ctx, cmd)
	switch {
	case refused(err):
		return a.runOn(ctx, mc, act, errors.Join(err, os.Remove(path)))
	case err != nil:
		return fmt.Errorf("save %s: %w", act.Group, err)
	}
	a.m.log.Info("machine saved", zap.String("name", act.Group), zap.Uint64("save", act.Save), zap.Int64("bytes", cmd.GetGroupSaved().Size), zap.Duration("took", time.Since(began)))
	return mc.Kill(ctx)
}

// write makes a state's file, and the command that says that it is there. Where it fails
// there is none.
func (a *nodeAgent) write(ctx context.Context, mc *vm.Machine, act cluster.SaveMachine, to uint64, folder, path string) (*pb.Command, error) {
	a.clearStates(folder, act.Group)
	settings := mc.Settings()
	by, err := a.savedBy(ctx, settings)
	if err != nil {
		return nil, err
	}
	if to != 0 {
		found, err := a.m.suits(ctx, settings, act.Volume, to)
		if err != nil {
			return nil, err
		}
		if bad := faults(found); len(bad) > 0 {
			return nil, errors.New(strings.Join(bad, "; "))
		}
	}
	if err := roomFor(folder, act.Volume, settings.MemoryMiB); err != nil {
		return nil, err
	}
	wctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go a.watchSave(wctx, cancel, act)
	info, err := mc.Save(wctx, path)
	switch {
	case wctx.Err() != nil && ctx.Err() == nil:
		return nil, context.Cause(wctx)
	case errors.Is(err, unix.ENOSPC):
		return nil, fmt.Errorf("%s became full: up to %d MiB are needed for the memory, and others use the volume too: %w", act.Volume, settings.MemoryMiB, err)
	case err != nil:
		return nil, err
	}
	return &pb.Command{Kind: &pb.Command_GroupSaved{GroupSaved: &pb.GroupSaved{
		Name: act.Group, Id: act.Save, Epoch: act.Epoch, NodeEpoch: act.NodeEpoch, Size: info.Size, Crc32C: info.CRC32C, By: by,
	}}}, nil
}

// watchSave ends a save that is not wanted any more.
func (a *nodeAgent) watchSave(ctx context.Context, cancel context.CancelCauseFunc, act cluster.SaveMachine) {
	for {
		next := a.m.db.next()
		over := ""
		a.m.db.view(func(s *pb.State) {
			if g := s.Groups[act.Group]; g.GetSaving().GetId() != act.Save {
				over = cmp.Or(g.GetNotSaved(), "it is not wanted any more")
			}
		})
		if over != "" {
			cancel(errors.New(over))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// roomFor tells whether a state surely finds room beside a machine: it is as large as the
// memory that the guest has used, which nobody knows before, and must not take from the
// machines' disks what they are about to use.
func roomFor(folder, volume string, memoryMiB int64) error {
	var st unix.Statfs_t
	if err := unix.Statfs(folder, &st); err != nil {
		return fmt.Errorf("how much room there is for its state: %w", err)
	}
	if free := int64(st.Bavail) * st.Bsize >> 20; free < memoryMiB {
		return fmt.Errorf("%s is too full: its state may take as much as its memory, %d MiB, and %d MiB are free", volume, memoryMiB, free)
	}
	return nil
}

// savedBy is what is kept of this node and of the machine to judge by where it can go on.
func (a *nodeAgent) savedBy(ctx context.Context, s vm.Settings) (*pb.SavedBy, error) {
	f, err := a.m.migrationFacts(ctx, &apipb.MigrationFactsRequest{CpuModel: s.CPUModel})
	if err != nil {
		return nil, err
	}
	by := &pb.SavedBy{
		Node: f.Name, Kvm: f.Kvm, CpuVendor: f.CpuVendor, CpuFamily: f.CpuFamily, CpuModelNumber: f.CpuModelNumber, QemuVersion: f.QemuVersion,
		CpuModel: s.CPUModel, MachineType: s.MachineType, CpuMissing: f.Cpu.GetMissing(), CpuFeatures: f.Cpu.GetFeatures(),
	}
	for _, n := range s.Networks {
		by.Networks = append(by.Networks, n.Name)
	}
	return by, nil
}

// runOn calls a save off that came to nothing, and lets the machine run on. Where it does
// not succeed RecoverMachine does.
func (a *nodeAgent) runOn(ctx context.Context, mc *vm.Machine, act cluster.SaveMachine, why error) error {
	ctx = context.WithoutCancel(ctx)
	if _, err := a.m.propose(ctx, cluster.EndSave(act.Group, act.Save, why.Error())); err != nil && !refused(err) {
		return errors.Join(why, err)
	}
	// It is over, and so nothing can come of it any more; unless something has.
	g, err := a.m.groupNow(ctx, act.Group)
	if err != nil {
		return errors.Join(why, err)
	}
	if g.Saved != nil || g.Owner != a.m.id.NodeID || g.Epoch != act.Epoch {
		return why
	}
	return errors.Join(fmt.Errorf("save %s: %w", act.Group, why), mc.Cont(ctx))
}

// restore makes a machine's process from its saved state and lets it run: it is loaded
// and stands still; the commit that uses the state up; the file is removed; it runs. The
// file goes first, so that no other incarnation of the cluster, which may not have the
// commit, can go on from it when the disk has gone on.
func (a *nodeAgent) restore(ctx context.Context, folder string, act cluster.StartMachine, attempt uint64) (*vm.Machine, error) {
	var saved *pb.SavedState
	var volume string
	a.m.db.view(func(s *pb.State) {
		volume = s.Groups[act.Group].GetVolume()
		if have := s.Groups[act.Group].GetSaved(); have.GetId() == act.Saved {
			saved = proto.Clone(have).(*pb.SavedState)
		}
	})
	if saved == nil {
		return nil, fmt.Errorf("its saved state %d was given up meanwhile", act.Saved)
	}
	bad, err := a.m.unsuited(ctx, act.Group, volume, saved.By, a.m.id.NodeID)
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("its saved state cannot go on here: %s", strings.Join(bad, "; "))
	}
	if err != nil {
		return nil, err
	}
	path := vm.StatePath(folder, saved.Id)
	mc, err := a.m.host.Restore(ctx, folder, path, vm.StateInfo{Size: saved.Size, CRC32C: saved.Crc32C})
	if err != nil {
		return nil, err
	}
	err = a.keeps(ctx, act.NodeEpoch)
	if err == nil {
		err = a.useUp(ctx, act, attempt)
	}
	if err == nil {
		err = vm.UseUp(path)
	}
	if err == nil {
		err = mc.Cont(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, mc.Kill(a.m.ctx))
	}
	if err := mc.Announce(ctx); err != nil {
		a.m.log.Warn("the machine could not be announced", zap.String("machine", act.Group), zap.Error(err))
	}
	return mc, nil
}

// unsuited says what stands against a saved machine's going on at a node.
func (m *member) unsuited(ctx context.Context, name, volume string, by *pb.SavedBy, node uint64) ([]string, error) {
	var memory uint64
	m.db.view(func(s *pb.State) { memory = s.Groups[name].GetMemoryMib() })
	there, err := m.factsAt(ctx, node, &apipb.MigrationFactsRequest{Networks: by.GetNetworks(), CpuModel: by.GetCpuModel()})
	if err != nil {
		return nil, err
	}
	needs := migration.Needs{Name: name, MemoryMiB: int64(memory), CPUModel: by.GetCpuModel(), MachineType: by.GetMachineType(), Volume: volume, Networks: by.GetNetworks()}
	from := factsOf(&apipb.MigrationFactsResponse{
		Name: by.GetNode(), Kvm: by.GetKvm(), CpuVendor: by.GetCpuVendor(), CpuFamily: by.GetCpuFamily(), CpuModelNumber: by.GetCpuModelNumber(), QemuVersion: by.GetQemuVersion(),
		Cpu: &apipb.CpuVerdict{Known: true, Missing: by.GetCpuMissing(), Features: by.GetCpuFeatures()},
	})
	return faults(migration.Check(needs, from, factsOf(there))), nil
}

// factsAt are what a node is to a machine with such cards and processor.
func (m *member) factsAt(ctx context.Context, node uint64, ask *apipb.MigrationFactsRequest) (*apipb.MigrationFactsResponse, error) {
	if node == m.id.NodeID {
		return m.migrationFacts(ctx, ask)
	}
	ctx, cancel := context.WithTimeout(ctx, factsTimeout)
	defer cancel()
	r, done, err := m.remoteTo(node)
	if err != nil {
		return nil, err
	}
	defer done()
	there, err := r.MigrationFacts(ctx, connect.NewRequest(ask))
	if err != nil {
		return nil, err
	}
	return there.Msg, nil
}

// useUp commits that a state is used up. It ends when the database has answered.
func (a *nodeAgent) useUp(ctx context.Context, act cluster.StartMachine, attempt uint64) error {
	cmd := &pb.Command{Kind: &pb.Command_GroupResume{GroupResume: &pb.GroupResume{
		Name: act.Group, Id: act.Saved, Epoch: act.Epoch, NodeEpoch: act.NodeEpoch, Attempt: attempt,
	}}}
	_, err := a.m.propose(ctx, cmd)
	for err != nil && !refused(err) && ctx.Err() == nil {
		_, err = a.m.proposeAgain(ctx, cmd)
	}
	return err
}

// clearStates removes what crashed saves of a machine have left.
func (a *nodeAgent) clearStates(folder, name string) {
	if err := a.m.clearStates(folder, name); err != nil {
		a.m.log.Warn("old states are left", zap.String("machine", name), zap.Error(err))
	}
}

// clearStates removes a machine's states but the one that the database has. What this
// replica does not know yet it leaves.
func (m *member) clearStates(folder, name string) error {
	var keep, last uint64
	m.db.view(func(s *pb.State) {
		g := s.Groups[name]
		keep, last = max(g.GetSaved().GetId(), g.GetSaving().GetId()), s.NextSave
	})
	if last == 0 {
		return nil
	}
	return vm.ClearStates(folder, keep, last)
}
