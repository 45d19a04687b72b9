package node

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/migration/agent"
)

// measureFromMiB is from how much memory on a path is measured before a machine moves:
// a smaller one is there as soon as the path is known.
const measureFromMiB = 2048

// route is a way to another node.
type route struct {
	network, address string
}

// migrationRoutes are the ways for a machine from one node to another, the preferred
// first: over the networks that have a place in the order for migration, and no other,
// or, where none has, over those that both nodes have, the clients' last.
func migrationRoutes(s *pb.State, from, to *pb.Node) []route {
	type way struct {
		route
		rank int
	}
	ordered := false
	networks := map[string]*pb.Network{}
	for _, n := range s.Networks {
		networks[n.Subnet] = n
		ordered = ordered || n.MigrationOrder > 0
	}
	var ways []way
	for _, a := range cluster.Addresses(s, to) {
		if !slices.ContainsFunc(cluster.Addresses(s, from), func(b *pb.NodeAddress) bool { return b.Network == a.Network }) {
			continue
		}
		n := networks[a.Network]
		rank := int(n.GetMigrationOrder())
		if !ordered && s.Cluster.Address != "" && cluster.OnNetwork(a.Network, s.Cluster.Address) {
			rank = 1
		}
		if ordered && rank == 0 {
			continue
		}
		ways = append(ways, way{route{cmp.Or(n.GetName(), a.Network), a.Host}, rank})
	}
	slices.SortStableFunc(ways, func(a, b way) int { return cmp.Compare(a.rank, b.rank) })
	var out []route
	for _, w := range ways {
		out = append(out, w.route)
	}
	return out
}

// findRoute is the first way that answers. skipped says which did not, and why.
func (m *member) findRoute(ctx context.Context, to uint64, port uint64, ways []route) (r route, dial func(context.Context) (net.Conn, error), skipped []string, err error) {
	for _, w := range ways {
		addr := net.JoinHostPort(w.address, strconv.FormatUint(port, 10))
		dial := func(ctx context.Context) (net.Conn, error) { return m.dial(ctx, to, addr, alpnMigrate) }
		dctx, cancel := context.WithTimeout(ctx, dialTimeout)
		conn, err := dial(dctx)
		cancel()
		if err == nil {
			_ = conn.Close() // it answers
			return w, dial, skipped, nil
		}
		if ctx.Err() != nil {
			return route{}, nil, skipped, ctx.Err()
		}
		skipped = append(skipped, fmt.Sprintf("%s does not carry it: %v", w.network, err))
	}
	if len(ways) == 0 {
		return route{}, nil, nil, fmt.Errorf("the two nodes share no network for migration: see `clusterctl network list`, and `network set --migration-order`")
	}
	return route{}, nil, skipped, fmt.Errorf("no network for migration reaches the target: %s", strings.Join(skipped, "; "))
}

// optionsOf are the cluster's settings, with what was asked for one migration over them.
func optionsOf(s *pb.State, own *pb.MigrationOptions) *pb.MigrationOptions {
	out := &pb.MigrationOptions{}
	proto.Merge(out, s.GetCluster().GetMigration().GetOptions())
	proto.Merge(out, own)
	return out
}

// bounds are a migration's, made of its options.
func bounds(o *pb.MigrationOptions) (migration.SourceOptions, error) {
	r, err := migration.ParseRemedies(o.GetRemedies())
	out := migration.SourceOptions{Remedies: r, Bandwidth: int64(o.GetBandwidth()), MaxBandwidth: int64(o.GetMaxBandwidth())}
	if ms := o.GetMaxPauseMs(); ms > 0 {
		out.MaxPause = time.Duration(ms) * time.Millisecond
		out.PauseLimit = min(out.MaxPause, defaultPause)
	}
	return out, err
}

// defaultPause is the pause that a migration aims at first, as package migration has it.
const defaultPause = 15 * time.Millisecond

// carriage chooses how a machine of so much memory goes over, and says why. The path is
// measured where that is of use, or whatever the machine, for a forecast.
func (m *member) carriage(ctx context.Context, memoryMiB int64, forecast bool, o *pb.MigrationOptions, dial func(context.Context) (net.Conn, error)) (c migration.Carriage, seen migration.Measured, why string, err error) {
	want, err := migration.ParseCompression(o.GetCompression())
	if err != nil {
		return c, seen, "", err
	}
	if forecast || memoryMiB >= measureFromMiB && (want == migration.CompressAuto || o.GetStreams() == 0) {
		seen = m.measure(ctx, dial)
	}
	seen.Limit = int64(o.GetBandwidth())
	c, why = migration.Choose(int(o.GetStreams()), want, memoryMiB, seen)
	return c, seen, why, nil
}

// measure finds out what a path carries. What could not be found out is left at 0.
func (m *member) measure(ctx context.Context, dial func(context.Context) (net.Conn, error)) migration.Measured {
	idle := make(chan float64, 1)
	go func() {
		n, err := agent.IdleProcessors(ctx)
		if err != nil {
			m.log.Warn("idle processors cannot be counted", zap.Error(err))
		}
		idle <- n
	}()
	p, err := agent.Measure(ctx, dial)
	if err != nil {
		m.log.Warn("the path could not be measured", zap.Error(err))
	}
	return migration.Measured{Link: p.Rate, IdleHere: <-idle, IdleThere: p.IdleThere}
}
