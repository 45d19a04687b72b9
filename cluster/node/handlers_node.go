package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sys/unix"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/disk/iscsi"
	"quorate/disk/san"
)

var refusalCodes = map[pb.Code]connect.Code{
	pb.Code_CODE_NOT_FOUND: connect.CodeNotFound, pb.Code_CODE_REFUSED: connect.CodeFailedPrecondition,
	pb.Code_CODE_STALE: connect.CodeFailedPrecondition, pb.Code_CODE_INVALID: connect.CodeInvalidArgument,
}

// memberLeases answers for the membership that there is.
type memberLeases struct{ n *Node }

// Renew implements keeperpbconnect.LeaseServiceHandler.
func (l memberLeases) Renew(ctx context.Context, r *connect.Request[keeperpb.RenewRequest]) (*connect.Response[keeperpb.RenewResponse], error) {
	m := l.n.current()
	if m == nil {
		return nil, errUnjoined
	}
	return m.leases.Renew(ctx, r)
}

var _ keeperpbconnect.LeaseServiceHandler = memberLeases{}

// Describe implements the service.
func (h *handlers) Describe(ctx context.Context, _ *connect.Request[apipb.DescribeRequest]) (*connect.Response[apipb.NodeDescription], error) {
	d, err := h.n.describe(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(d), nil
}

func (n *Node) describe(ctx context.Context) (*apipb.NodeDescription, error) {
	addrs, err := n.addresses()
	if err != nil {
		return nil, err
	}
	facts := n.facts(ctx)
	port, _ := n.opt.apiPort()
	d := &apipb.NodeDescription{
		Name: n.opt.Name, Version: cluster.Version, Format: cluster.Format, Fingerprint: n.self.Fingerprint(), ClockMs: time.Now().UnixMilli(), BootId: facts.BootId,
		CpuVendor: facts.CpuVendor, CpuFamily: facts.CpuFamily, CpuModel: facts.CpuModel, Cpus: facts.Cpus, MemoryMib: facts.MemoryMib,
		Accelerator: facts.Accelerator, AcceleratorNote: facts.AcceleratorNote, QemuVersion: facts.QemuVersion,
		CpuModels: describedModels(facts.CpuModels), Bridges: describedBridges(facts.Bridges), Os: osName(), Kernel: kernelName(),
		ApiPort: uint32(port), KeeperPort: uint32(n.opt.KeeperPort), GossipPort: uint32(n.opt.GossipPort),
	}
	for _, a := range addrs {
		d.Addresses = append(d.Addresses, &apipb.Address{Network: a.Network, Host: a.Host})
	}
	if m := n.current(); m != nil {
		d.Joined, d.ClusterId, d.NodeId = true, m.id.ClusterID, m.id.NodeID
		m.db.view(func(s *pb.State) {
			d.ClusterName, d.ClusterCpuModel, d.VirtualNetworks = s.GetCluster().GetName(), cluster.CPUModelOf(s), virtualNetworks(s)
		})
	}
	return d, nil
}

// Enroll implements the service.
func (h *handlers) Enroll(_ context.Context, r *connect.Request[apipb.EnrollRequest]) (*connect.Response[apipb.EnrollResponse], error) {
	addr := r.Msg.Address
	if addr == "" {
		list, err := h.n.addresses()
		if err != nil {
			return nil, err
		}
		if len(list) == 0 {
			return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New("this node has no address: configure its network first"))
		}
		addr = list[0].Host
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		port, _ := h.n.opt.apiPort()
		addr = net.JoinHostPort(addr, fmt.Sprint(port))
	}
	line, err := h.n.enroll.line(h.n.opt.Name, addr)
	if err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return connect.NewResponse(&apipb.EnrollResponse{Line: line}), nil
}

// Migrations implements the service.
func (h *handlers) Migrations(_ context.Context, r *connect.Request[apipb.MigrationsRequest]) (*connect.Response[apipb.MigrationsResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.MigrationsResponse{Moves: m.moves.list(r.Msg.Id)}), nil
}

// StorageProgress implements the service.
func (h *handlers) StorageProgress(_ context.Context, r *connect.Request[apipb.StorageProgressRequest]) (*connect.Response[apipb.StorageProgressResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	done, total := m.agent.storage.progress(r.Msg.Name, r.Msg.Move)
	return connect.NewResponse(&apipb.StorageProgressResponse{Copied: done, Total: total}), nil
}

func chapOf(c *apipb.Chap) iscsi.CHAP {
	return iscsi.CHAP{User: c.GetUser(), Password: c.GetPassword(), PeerUser: c.GetPeerUser(), PeerPassword: c.GetPeerPassword()}
}

func targetsOf(list []san.Target) []*apipb.SanTarget {
	var out []*apipb.SanTarget
	for _, t := range list {
		st := &apipb.SanTarget{Iqn: t.IQN, Portals: t.Portals, Error: t.Error, Favourite: t.Favourite}
		for _, l := range t.LUNs {
			st.Luns = append(st.Luns, lunOf(l))
		}
		out = append(out, st)
	}
	return out
}

func lunOf(l san.LUN) *apipb.Lun {
	return &apipb.Lun{Url: l.URL, Id: l.ID, Serial: l.Serial, Vendor: l.Vendor, Product: l.Product, Size: l.Size, BlockSize: int32(l.BlockSize), Holds: l.Holds}
}

// SanDiscover implements the service.
func (h *handlers) SanDiscover(ctx context.Context, r *connect.Request[apipb.SanDiscoverRequest]) (*connect.Response[apipb.SanDiscoverResponse], error) {
	list, err := h.n.san.Discover(ctx, r.Msg.Portal, chapOf(r.Msg.Chap))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.SanDiscoverResponse{Targets: targetsOf(list)}), nil
}

// SanLogin implements the service.
func (h *handlers) SanLogin(ctx context.Context, r *connect.Request[apipb.SanLoginRequest]) (*connect.Response[apipb.SanLoginResponse], error) {
	list, err := h.n.san.Login(ctx, r.Msg.Portal, r.Msg.Target, chapOf(r.Msg.Chap))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.SanLoginResponse{Targets: targetsOf(list)}), nil
}

// SanList implements the service.
func (h *handlers) SanList(ctx context.Context, _ *connect.Request[apipb.SanListRequest]) (*connect.Response[apipb.SanListResponse], error) {
	list, err := h.n.san.List(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.SanListResponse{Targets: targetsOf(list)}), nil
}

// ProbeLun implements the service.
func (h *handlers) ProbeLun(ctx context.Context, r *connect.Request[apipb.ProbeLunRequest]) (*connect.Response[apipb.ProbeLunResponse], error) {
	res, err := h.n.san.Probe(ctx, san.ProbeRequest{
		URL: r.Msg.Url, Step: r.Msg.Step, Key: r.Msg.Key, Victim: r.Msg.Victim, Type: uint8(r.Msg.Type), Session: r.Msg.Session,
	})
	if err != nil {
		return nil, err
	}
	out := &apipb.ProbeLunResponse{
		Conflict: res.Conflict, Error: res.Error, Keys: res.Keys, Holder: res.Holder, Type: uint32(res.Type), Generation: res.Generation,
		Reservations: res.Reservations, Persist: res.Persist, PreemptAbort: res.PreemptAbort,
	}
	for _, d := range res.Latency {
		out.LatencyUs = append(out.LatencyUs, d.Microseconds())
	}
	return connect.NewResponse(out), nil
}

const maxReach = 64

// Reach implements the service.
func (h *handlers) Reach(ctx context.Context, r *connect.Request[apipb.ReachRequest]) (*connect.Response[apipb.ReachResponse], error) {
	if len(r.Msg.Addresses) > maxReach {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%d addresses, at most %d at once", len(r.Msg.Addresses), maxReach))
	}
	out := make([]*apipb.Reached, len(r.Msg.Addresses))
	done := make(chan struct{})
	for i, addr := range r.Msg.Addresses {
		go func() {
			out[i] = reach(ctx, addr)
			done <- struct{}{}
		}()
	}
	for range out {
		<-done
	}
	return connect.NewResponse(&apipb.ReachResponse{Results: out}), nil
}

func reach(ctx context.Context, addr string) *apipb.Reached {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	began := time.Now()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return &apipb.Reached{Address: addr, Error: err.Error()}
	}
	c.Close()
	return &apipb.Reached{Address: addr, Ok: true, RttUs: time.Since(began).Microseconds()}
}

func osName() string {
	text, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "unknown"
}

func kernelName() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}
