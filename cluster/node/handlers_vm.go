package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	pb "quorate/cluster/clusterpb"
	"quorate/resources"
	"quorate/resources/vm"
)

// Bounds of machine commands.
const (
	vmStartWait = 90 * time.Second
	vmStopWait  = stopGrace + 30*time.Second
	maxConsole  = 1 << 20 // bytes of the console log in one answer
	chunkSize   = 16 << 10
)

// volumeFor is the volume that was named, or the only one.
func volumeFor(s *pb.State, name string) (string, error) {
	if name != "" {
		if s.Volumes[name] == nil {
			return "", connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no volume %q", name))
		}
		return name, nil
	}
	switch names := slices.Sorted(maps.Keys(s.Volumes)); len(names) {
	case 0:
		return "", connect.NewError(connect.CodeFailedPrecondition, errors.New("there is no shared volume: add one with `clusterctl csv add`"))
	case 1:
		return names[0], nil
	default:
		return "", connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("there are several volumes, %v: name one with --volume", names))
	}
}

// VmCreate implements the service.
func (h *handlers) VmCreate(ctx context.Context, r *connect.Request[apipb.VmCreateRequest]) (*connect.Response[apipb.VmCreateResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := vm.CheckName(r.Msg.Name); err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	var volume string
	model := r.Msg.CpuModel
	m.db.view(func(s *pb.State) {
		if model == "" && cluster.FormatOf(s) >= cpuFormat {
			model = vm.ClusterCPU
		}
		if volume, err = volumeFor(s, r.Msg.Volume); err == nil && s.Volumes[volume].Status[m.id.NodeID].GetState() != "direct" {
			err = connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is not mounted on this node: see `clusterctl csv list`", volume))
		}
		if err == nil && s.Groups[r.Msg.Name] != nil {
			err = connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("there is a machine %s already", r.Msg.Name))
		}
	})
	if err != nil {
		return nil, err
	}
	networks := make([]string, len(r.Msg.Networks))
	for i, n := range r.Msg.Networks {
		if networks[i], err = m.networkFor(n); err != nil {
			return nil, err
		}
	}
	_, err = vm.Create(ctx, filepath.Join(h.n.opt.StorageDir, volume), vm.Spec{
		Name: r.Msg.Name, MemoryMiB: r.Msg.MemoryMib, CPUs: int(r.Msg.Cpus), DiskSize: r.Msg.DiskSize,
		Image: r.Msg.Image, ISO: r.Msg.Iso, Networks: networks, CPUModel: model,
	})
	switch {
	case errors.Is(err, vm.ErrExists):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case err != nil:
		return nil, err
	}
	return connect.NewResponse(&apipb.VmCreateResponse{Folder: m.folder(volume, r.Msg.Name), Volume: volume}), nil
}

// find says on which volume a machine's folder lies.
func (m *member) find(name, volume string) (string, error) {
	if err := vm.CheckName(name); err != nil {
		return "", connect.NewError(connect.CodeInvalidArgument, err)
	}
	var volumes []string
	states := map[string]string{}
	m.db.view(func(s *pb.State) {
		volumes = slices.Sorted(maps.Keys(s.Volumes))
		if g := s.Groups[name]; g != nil { // on another may lie what is being copied
			volumes = []string{g.Volume}
		}
		for _, v := range volumes {
			states[v] = s.Volumes[v].Status[m.id.NodeID].GetState()
		}
	})
	for _, v := range volumes {
		if volume != "" && v != volume {
			continue
		}
		if states[v] != "direct" {
			return "", connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is %s on this node at the moment: try again, or ask another node", v, cmp.Or(states[v], "not mounted")))
		}
		if _, err := os.Stat(vm.SettingsPath(m.folder(v, name))); err == nil {
			return v, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("look for %s on %s: %w", name, v, err)
		}
	}
	return "", connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no machine %q on the volumes %v: make it with `clusterctl vm create`", name, volumes))
}

// VmAdd implements the service.
func (h *handlers) VmAdd(ctx context.Context, r *connect.Request[apipb.VmAddRequest]) (*connect.Response[apipb.VmAddResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	volume, err := m.find(r.Msg.Name, r.Msg.Volume)
	if err != nil {
		return nil, err
	}
	settings, err := vm.Load(m.folder(volume, r.Msg.Name))
	if err != nil {
		return nil, err
	}
	if mc, err := m.host.Lookup(ctx, r.Msg.Name); err != nil {
		return nil, err
	} else if mc != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s runs: a machine must be off when it is made highly available", r.Msg.Name))
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{
		Name: r.Msg.Name, Type: "vm", Volume: volume, Folder: r.Msg.Name, Owner: m.ownerOfNew(volume), MemoryMib: uint64(settings.MemoryMiB), Cards: &pb.Cards{Networks: networksOf(settings)},
	}}}}); err != nil {
		return nil, err
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmAddResponse{Group: g}), err
}

// ownerOfNew is the node that is to have a new machine: this one, unless it is drained.
func (m *member) ownerOfNew(volume string) (owner uint64) {
	m.db.view(func(s *pb.State) {
		owner = m.id.NodeID
		if s.Nodes[owner].GetDrain() == nil {
			return
		}
		if p := resources.Place(resources.Need{Volume: volume}, cluster.Candidates(s)); p.Node != 0 {
			owner = p.Node
		}
	})
	return owner
}

func (m *member) groupInfo(name string) (*apipb.GroupInfo, error) {
	s := m.db.clone()
	if s.Groups[name] == nil {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("%q is no highly available machine: see `clusterctl vm list`, and `clusterctl vm add`", name))
	}
	return groupInfo(s, s.Groups[name]), nil
}

// VmRemove implements the service.
func (h *handlers) VmRemove(ctx context.Context, r *connect.Request[apipb.VmRemoveRequest]) (*connect.Response[apipb.VmRemoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: r.Msg.Name, DiscardState: r.Msg.DiscardState}}}); err != nil {
		return nil, err
	}
	if r.Msg.DiscardState {
		m.removeStates(r.Msg.Name)
	}
	return connect.NewResponse(&apipb.VmRemoveResponse{}), nil
}

func (m *member) desire(ctx context.Context, name string, d pb.Desire, hard bool) error {
	_, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_GroupDesire{GroupDesire: &pb.GroupDesire{Name: name, Desire: d, Hard: hard}}})
	return err
}

// VmStart implements the service.
func (h *handlers) VmStart(ctx context.Context, r *connect.Request[apipb.VmStartRequest]) (*connect.Response[apipb.VmStartResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.settle(ctx, r.Msg.Name); err != nil {
		return nil, err
	}
	if err := m.barredEverywhere(r.Msg.Name); err != nil {
		return nil, err
	}
	if err := m.desire(ctx, r.Msg.Name, pb.Desire_DESIRE_STARTED, false); err != nil {
		return nil, err
	}
	if r.Msg.Wait {
		limit := vmStartWait
		m.db.view(func(s *pb.State) {
			if s.Groups[r.Msg.Name].GetSaved() != nil {
				limit = stateTimeout
			}
		})
		err = m.until(ctx, limit, r.Msg.Name+" runs", func(s *pb.State) (bool, error) {
			g := s.Groups[r.Msg.Name]
			switch {
			case g == nil:
				return false, connect.NewError(connect.CodeNotFound, fmt.Errorf("%s was removed meanwhile", r.Msg.Name))
			case g.Saved.GetFault() != "":
				return false, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is saved, and its state cannot be used: %s. It is kept, and the machine starts from its disk after `clusterctl vm discard-state %s`", g.Name, g.Saved.Fault, g.Name))
			case g.Status.GetEpoch() != g.Epoch:
				return false, nil
			case g.Status.State == pb.GroupState_GROUP_STATE_FAILED && g.Restarts > 0:
				return false, fmt.Errorf("%s does not start on %s: %s", g.Name, nameOf(s, g.Owner), g.Status.Detail)
			}
			return g.Status.State == pb.GroupState_GROUP_STATE_ONLINE, nil
		})
		if err != nil {
			return nil, err
		}
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmStartResponse{Group: g}), err
}

// barredEverywhere refuses the start of a machine that by its policy must not run where it
// is, where no other node can take it: it would wait and nobody would know for what.
func (m *member) barredEverywhere(name string) (err error) {
	m.db.view(func(s *pb.State) {
		g := s.Groups[name]
		if g == nil || g.Desire == pb.Desire_DESIRE_STARTED || cluster.Barred(s, g, g.Owner) == "" {
			return
		}
		if p := cluster.ExplainGroup(s, g, time.Now()); p.Node == 0 {
			err = connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot start: %s", name, p.Explain()))
		}
	})
	return err
}

// VmStop implements the service.
func (h *handlers) VmStop(ctx context.Context, r *connect.Request[apipb.VmStopRequest]) (*connect.Response[apipb.VmStopResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.desire(ctx, r.Msg.Name, pb.Desire_DESIRE_STOPPED, r.Msg.Hard); err != nil {
		return nil, err
	}
	if r.Msg.Wait {
		err = m.until(ctx, vmStopWait, r.Msg.Name+" is off", func(s *pb.State) (bool, error) {
			g := s.Groups[r.Msg.Name]
			return g == nil || g.Status.GetState() == pb.GroupState_GROUP_STATE_OFFLINE, nil
		})
		if err != nil {
			return nil, err
		}
	}
	g, err := m.groupInfo(r.Msg.Name)
	return connect.NewResponse(&apipb.VmStopResponse{Group: g}), err
}

// VmShow implements the service.
func (h *handlers) VmShow(ctx context.Context, r *connect.Request[apipb.VmShowRequest]) (*connect.Response[apipb.VmShowResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	var owner uint64
	m.db.view(func(s *pb.State) { owner = s.Groups[r.Msg.Name].GetOwner() })
	res := &apipb.VmShowResponse{}
	if owner != 0 {
		res.Group, _ = m.groupInfo(r.Msg.Name)
	}
	volume, err := m.find(r.Msg.Name, "")
	if err != nil {
		if owner != 0 && owner != m.id.NodeID && peerOf(ctx) == 0 {
			return m.showThere(ctx, owner, r.Msg)
		}
		return nil, err
	}
	res.Folder = m.folder(volume, r.Msg.Name)
	text, err := os.ReadFile(vm.SettingsPath(res.Folder))
	if err != nil {
		return nil, err
	}
	res.Settings = string(text)
	if !r.Msg.Console {
		return connect.NewResponse(res), nil
	}
	if owner != 0 && owner != m.id.NodeID && peerOf(ctx) == 0 {
		there, err := m.showThere(ctx, owner, r.Msg)
		if err != nil {
			return nil, err
		}
		res.Console = there.Msg.Console
		return connect.NewResponse(res), nil
	}
	res.Console, err = tail(m.host.ConsoleLog(r.Msg.Name), int64(r.Msg.ConsoleBytes))
	return connect.NewResponse(res), err
}

// showThere asks the machine's node.
func (m *member) showThere(ctx context.Context, owner uint64, r *apipb.VmShowRequest) (*connect.Response[apipb.VmShowResponse], error) {
	c, done, err := m.clusterOf(owner)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.VmShow(ctx, connect.NewRequest(r))
}

// tail is the end of a file, or nothing where there is none.
func tail(path string, n int64) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	if n <= 0 || n > maxConsole {
		n = maxConsole
	}
	if info, err := f.Stat(); err == nil && info.Size() > n {
		if _, err := f.Seek(-n, io.SeekEnd); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(f, n))
}

// clusterOf is the cluster service of another member.
func (m *member) clusterOf(id uint64) (apipbconnect.ClusterServiceClient, func(), error) {
	hc, url, err := m.httpTo(id)
	if err != nil {
		return nil, nil, err
	}
	return apipbconnect.NewClusterServiceClient(hc, url), hc.CloseIdleConnections, nil
}

// VmConsole implements the service.
func (h *handlers) VmConsole(ctx context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk]) error {
	return h.pipe(ctx, s, (*vm.Machine).ConsolePath, apipbconnect.ClusterServiceClient.VmConsole)
}

// VmVnc implements the service.
func (h *handlers) VmVnc(ctx context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk]) error {
	return h.pipe(ctx, s, (*vm.Machine).VNCPath, apipbconnect.ClusterServiceClient.VmVnc)
}

type bidiClient = connect.BidiStreamForClient[apipb.Chunk, apipb.Chunk]

// pipe carries bytes between a caller and a machine's socket, here or through
// the node that has it.
func (h *handlers) pipe(ctx context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk], path func(*vm.Machine) string,
	there func(apipbconnect.ClusterServiceClient, context.Context) *bidiClient,
) error {
	m, err := h.member()
	if err != nil {
		return err
	}
	first, err := s.Receive()
	if err != nil {
		return err
	}
	mc, err := m.host.Lookup(ctx, first.Name)
	if err != nil {
		return err
	}
	if mc == nil {
		var owner uint64
		m.db.view(func(s *pb.State) { owner = s.Groups[first.Name].GetOwner() })
		if owner == 0 || owner == m.id.NodeID || peerOf(ctx) != 0 {
			return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%q does not run", first.Name))
		}
		return m.pipeThrough(ctx, s, owner, first, there)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path(mc))
	if err != nil {
		return fmt.Errorf("connect to %s: %w", first.Name, err)
	}
	defer conn.Close()
	go func() {
		defer conn.Close()
		for data := first.Data; ; {
			if _, err := conn.Write(data); err != nil {
				return
			}
			c, err := s.Receive()
			if err != nil {
				return
			}
			data = c.Data
		}
	}()
	buf := make([]byte, chunkSize)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			if err := s.Send(&apipb.Chunk{Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err != nil {
			return nil //nolint:nilerr // the machine, or the caller, ended the session
		}
	}
}

func (m *member) pipeThrough(ctx context.Context, s *connect.BidiStream[apipb.Chunk, apipb.Chunk], owner uint64, first *apipb.Chunk,
	there func(apipbconnect.ClusterServiceClient, context.Context) *bidiClient,
) error {
	c, done, err := m.clusterOf(owner)
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	far := there(c, ctx)
	if err := far.Send(first); err != nil {
		return err
	}
	go func() {
		defer func() { _ = far.CloseRequest() }()
		for {
			chunk, err := s.Receive()
			if err != nil || far.Send(chunk) != nil {
				return
			}
		}
	}()
	for {
		chunk, err := far.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.Send(chunk); err != nil {
			return err
		}
	}
}
