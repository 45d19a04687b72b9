package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/resources/vm"
)

// bridges are this node's, with what its clusterd.yaml says that they are.
func (o Options) bridges() (*pb.Bridges, error) {
	list, err := vm.Bridges()
	if err != nil {
		return nil, err
	}
	out := &pb.Bridges{Networks: o.Networks}
	for _, b := range list {
		out.Bridges = append(out.Bridges, &pb.Bridge{Name: b.Name, Up: b.Up})
	}
	return out, nil
}

// networkAt is cluster.NetworkAt of this node, as it is now.
func (m *member) networkAt(network string) (there bool, why string, err error) {
	have, err := m.n.opt.bridges()
	if err != nil {
		return false, "", err
	}
	m.db.view(func(s *pb.State) { there, why = cluster.NetworkAt(s, s.Nodes[m.id.NodeID], have, network) })
	return there, why, nil
}

// bridge is this node's for a network of machines.
func (m *member) bridge(network string) (bridge string, err error) {
	there, why, err := m.networkAt(network)
	if err != nil {
		return "", err
	}
	if !there {
		return "", errors.New(why)
	}
	if why != "" {
		m.log.Warn("a machine's network is not in order", zap.String("why", why))
	}
	m.db.view(func(s *pb.State) {
		bridge = cluster.BridgeFor(s, m.id.NodeID, &pb.Bridges{Networks: m.n.opt.Networks}, network)
	})
	return bridge, nil
}

// replug puts the cards of the machines that run here onto the bridges that their virtual
// networks are now.
func (m *member) replug() {
	bridges := map[string]string{}
	m.db.view(func(s *pb.State) {
		for name := range s.VirtualNetworks {
			bridges[name] = cluster.BridgeFor(s, m.id.NodeID, nil, name)
		}
	})
	if len(bridges) == 0 {
		return
	}
	done, err := m.host.Replug(m.ctx, bridges)
	for _, d := range done {
		m.log.Info("a running machine's card was put on another bridge", zap.String("card", d))
	}
	if err != nil && m.ctx.Err() == nil {
		m.log.Warn("not every machine's card is on its network's bridge", zap.Error(err))
	}
}

// networkFor is the network that a new machine's card is plugged into, by its own name.
func (m *member) networkFor(name string) (string, error) {
	var known []string
	m.db.view(func(s *pb.State) {
		if v := cluster.VirtualNetworkNamed(s, name); v != nil {
			name, known = v.Name, nil
			return
		}
		known = slices.Sorted(maps.Keys(s.VirtualNetworks))
	})
	there, why, err := m.networkAt(name)
	if err != nil {
		return "", err
	}
	if !there {
		if len(known) > 0 {
			why += fmt.Sprintf("; there are the virtual networks %s", strings.Join(known, ", "))
		}
		return "", connect.NewError(connect.CodeFailedPrecondition, errors.New(why))
	}
	return name, nil
}

// VirtualNetworkSet implements the service.
func (h *handlers) VirtualNetworkSet(ctx context.Context, r *connect.Request[apipb.VirtualNetworkSetRequest]) (*connect.Response[apipb.VirtualNetworkSetResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	set := &pb.VirtualNetworkSet{Name: r.Msg.Name, Add: r.Msg.Add, Bridge: r.Msg.Bridge, Nodes: map[uint64]string{}}
	for _, name := range slices.Sorted(maps.Keys(r.Msg.Nodes)) {
		id, err := m.nodeNamed(name)
		if err != nil {
			return nil, err
		}
		set.Nodes[id] = r.Msg.Nodes[name]
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VirtualNetworkSet{VirtualNetworkSet: set}}); err != nil {
		return nil, err
	}
	res := &apipb.VirtualNetworkSetResponse{}
	m.db.view(func(s *pb.State) {
		if v := cluster.VirtualNetworkNamed(s, set.Name); v != nil {
			res.Network = virtualNetworkInfo(s, v)
		}
	})
	return connect.NewResponse(res), nil
}

// VirtualNetworkRemove implements the service. The database knows what machines have
// run with; what they would be started with stands in their settings.
func (h *handlers) VirtualNetworkRemove(ctx context.Context, r *connect.Request[apipb.VirtualNetworkRemoveRequest]) (*connect.Response[apipb.VirtualNetworkRemoveResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	if err := m.barrier(ctx); err != nil {
		return nil, err
	}
	name := r.Msg.Name
	folders := map[string]string{} // of machines
	m.db.view(func(s *pb.State) {
		if v := cluster.VirtualNetworkNamed(s, name); v != nil {
			name = v.Name
		}
		for _, g := range s.Groups {
			if g.Type == "vm" {
				folders[g.Name] = m.folder(g.Volume, g.Folder)
			}
		}
	})
	var users []string
	for _, machine := range slices.Sorted(maps.Keys(folders)) {
		settings, err := vm.Load(folders[machine])
		if err != nil {
			m.log.Warn("it is not known which networks a machine's settings name", zap.String("machine", machine), zap.Error(err))
		}
		if slices.Contains(networksOf(settings), name) {
			users = append(users, machine)
		}
	}
	if len(users) > 0 {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(cluster.UsedBy(name, users)))
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VirtualNetworkRemove{VirtualNetworkRemove: &pb.VirtualNetworkRemove{Name: name}}}); err != nil {
		return nil, err
	}
	return connect.NewResponse(&apipb.VirtualNetworkRemoveResponse{}), nil
}

// networksOf are what a machine's cards are plugged into.
func networksOf(s vm.Settings) (out []string) {
	for _, n := range s.Networks {
		out = append(out, n.Name)
	}
	return out
}

// virtualNetworks are all, by their names.
func virtualNetworks(s *pb.State) (out []*apipb.VirtualNetworkInfo) {
	for _, name := range slices.Sorted(maps.Keys(s.VirtualNetworks)) {
		out = append(out, virtualNetworkInfo(s, s.VirtualNetworks[name]))
	}
	return out
}

func virtualNetworkInfo(s *pb.State, v *pb.VirtualNetwork) *apipb.VirtualNetworkInfo {
	out := &apipb.VirtualNetworkInfo{Name: v.Name, Bridge: v.Bridge, Machines: cluster.MachinesOn(s, v.Name)}
	for _, n := range sortedNodes(s) {
		have := n.GetFacts().GetBridges()
		at := &apipb.VirtualNetworkNode{Node: n.Name, Bridge: cluster.BridgeFor(s, n.Id, have, v.Name), Own: v.Nodes[n.Id] != ""}
		if at.Lacks = "it has not said which bridges it has"; have != nil {
			_, at.Lacks = cluster.NetworkAt(s, n, have, v.Name)
		}
		out.Nodes = append(out.Nodes, at)
	}
	return out
}

// networksLack says what a node that was just added lacks of the virtual networks.
func (m *member) networksLack(name string) (out []string) {
	m.db.view(func(s *pb.State) {
		for _, v := range virtualNetworks(s) {
			for _, n := range v.Nodes {
				if n.Node == name && n.Lacks != "" {
					out = append(out, n.Lacks)
				}
			}
		}
	})
	return out
}

// describedBridges are they for another node.
func describedBridges(b *pb.Bridges) *apipb.Bridges {
	if b == nil {
		return nil
	}
	out := &apipb.Bridges{}
	for _, br := range b.Bridges {
		out.Bridges = append(out.Bridges, &apipb.Bridge{Name: br.Name, Up: br.Up})
	}
	return out
}

// bridgesBefore are they of a node that is no member yet.
func bridgesBefore(b *apipb.Bridges) *pb.Bridges {
	if b == nil {
		return nil
	}
	out := &pb.Bridges{}
	for _, br := range b.Bridges {
		out.Bridges = append(out.Bridges, &pb.Bridge{Name: br.Name, Up: br.Up})
	}
	return out
}
