package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/resources"
	"quorate/resources/vm"
)

// VmSave implements the service.
func (h *handlers) VmSave(ctx context.Context, r *connect.Request[apipb.VmSaveRequest]) (*connect.Response[apipb.VmSaveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupSave{GroupSave: &pb.GroupSave{Name: r.Msg.Name}}})
	if err != nil {
		return nil, err
	}
	if r.Msg.Wait {
		err = m.until(ctx, stateTimeout, r.Msg.Name+" is saved", func(s *pb.State) (bool, error) { return saved(s, r.Msg.Name, res.Number) })
		if err != nil {
			return nil, err
		}
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmSaveResponse{Group: g}), err
}

// saved tells whether a save has come to its end, with the machine off.
func saved(s *pb.State, name string, id uint64) (bool, error) {
	g := s.Groups[name]
	switch {
	case g.GetSaving().GetId() == id:
		return false, nil
	case g.GetSaved().GetId() == id:
		return g.Status.GetState() == pb.GroupState_GROUP_STATE_OFFLINE, nil
	case g.GetNotSaved() != "":
		return false, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s was not saved, and runs on: %s", name, g.NotSaved))
	}
	return false, connect.NewError(connect.CodeAborted, fmt.Errorf("%s was saved, and its state is used up or given up already: see `clusterctl events`", name))
}

// VmDiscardState implements the service.
func (h *handlers) VmDiscardState(ctx context.Context, r *connect.Request[apipb.VmDiscardStateRequest]) (*connect.Response[apipb.VmDiscardStateResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupDiscard{GroupDiscard: &pb.GroupDiscard{Name: r.Msg.Name}}}); err != nil {
		return nil, err
	}
	m.removeStates(r.Msg.Name)
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmDiscardStateResponse{Group: g}), err
}

// removeStates removes the files of states that were given up. What cannot be removed now
// is, by its owner, when the machine starts or is saved.
func (m *member) removeStates(name string) {
	volume, err := m.find(name, "")
	if err == nil {
		err = m.clearStates(m.folder(volume, name), name)
	}
	if err != nil {
		m.log.Warn("the file of a saved state is left", zap.String("machine", name), zap.Error(err))
	}
}

// VmMove implements the service.
func (h *handlers) VmMove(ctx context.Context, r *connect.Request[apipb.VmMoveRequest]) (*connect.Response[apipb.VmMoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	to, _, err := m.moveTarget(r.Msg.Name, r.Msg.To)
	if err != nil {
		return nil, err
	}
	if err := m.suitsOff(ctx, r.Msg.Name, to); err != nil {
		return nil, err
	}
	if err := m.moveOff(ctx, r.Msg.Name, to); err != nil {
		return nil, err
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmMoveResponse{Group: g}), err
}

func (m *member) moveOff(ctx context.Context, name string, to uint64) error {
	_, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupMove{GroupMove: &pb.GroupMove{Name: name, To: to}}})
	return err
}

// suitsOff refuses a node on which a machine that is off, or saved, cannot run.
func (m *member) suitsOff(ctx context.Context, name string, to uint64) error {
	var volume, folder, there string
	var by *pb.SavedBy
	m.db.view(func(s *pb.State) {
		g := s.Groups[name]
		volume, folder, there, by = g.GetVolume(), g.GetFolder(), nameOf(s, to), g.GetSaved().GetBy()
	})
	var bad []string
	var err error
	if by != nil {
		bad, err = m.unsuited(ctx, name, volume, by, to)
	} else {
		var settings vm.Settings
		if settings, err = vm.Load(filepath.Join(m.n.opt.StorageDir, volume, folder)); errors.Is(err, os.ErrNotExist) {
			return nil // not mounted here: its start will say what is wrong
		}
		if err == nil {
			bad, err = m.lacks(ctx, settings, volume, to)
		}
	}
	switch {
	case err != nil:
		return fmt.Errorf("%s could not be asked whether it suits %s: %w", there, name, err)
	case len(bad) > 0:
		return connect.NewError(connect.CodeFailedPrecondition, errors.New(strings.Join(bad, "; ")))
	}
	return nil
}

// lacks says what a node lacks for a machine to start there.
func (m *member) lacks(ctx context.Context, s vm.Settings, volume string, to uint64) (bad []string, err error) {
	by := &pb.SavedBy{MachineType: s.MachineType} // what it starts on anew need not be like what it ran on
	for _, n := range s.Networks {
		by.Networks = append(by.Networks, n.Name)
	}
	f, err := m.factsAt(ctx, to, &apipb.MigrationFactsRequest{})
	if err != nil {
		return nil, err
	}
	by.Node, by.Kvm, by.CpuVendor, by.CpuFamily, by.CpuModelNumber, by.QemuVersion = f.Name, f.Kvm, f.CpuVendor, f.CpuFamily, f.CpuModelNumber, f.QemuVersion
	return m.unsuited(ctx, s.Name, volume, by, to)
}

// settle gives a saved machine that is to start to a node that suits it, where its owner
// does not. The error says why no node does.
func (m *member) settle(ctx context.Context, name string) error {
	s := m.db.clone()
	g := s.Groups[name]
	if g.GetSaved() == nil || g.Desire == pb.Desire_DESIRE_STARTED {
		return nil
	}
	var why []string
	candidates := cluster.Candidates(s)
	cluster.Wish(s, g, candidates, time.Now())
	for id := g.Owner; ; {
		bad, err := m.unsuited(ctx, name, g.Volume, g.Saved.By, id)
		if err != nil {
			bad = []string{fmt.Sprintf("%s does not say what it is: %v", nameOf(s, id), err)}
		}
		if barred := cluster.Barred(s, g, id); barred != "" {
			bad = append(bad, fmt.Sprintf("it must not run on %s: %s", nameOf(s, id), barred))
		}
		switch {
		case len(bad) > 0:
		case id == g.Owner:
			return nil
		default:
			return m.moveOff(ctx, name, id)
		}
		why = append(why, bad...)
		i := slices.IndexFunc(candidates, func(c resources.Candidate) bool { return c.ID == id })
		if i >= 0 {
			candidates[i].Unfit = strings.Join(bad, "; ")
		}
		p := resources.Place(resources.Need{Group: name, Volume: g.Volume, MemoryMiB: g.MemoryMib}, candidates)
		if id = p.Node; id == 0 {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is saved and no node suits its state: %s. It starts from its disk after `clusterctl vm discard-state %s`", name, strings.Join(why, "; "), name))
		}
	}
}
