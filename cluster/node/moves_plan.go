package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
	"quorate/migration/agent"
	"quorate/migration/migrationpb"
	"quorate/resources/vm"
)

// plan is what a migration from here goes by.
type plan struct {
	config   agent.SourceConfig
	from, to string
	own      int64 // what it may use by itself, in bytes a second; 0 for all
}

// plan finds out how a machine moves: whether the target suits it, over which network,
// and how. An error says why it cannot.
func (v *moves) plan(ctx context.Context, act cluster.MoveMachine, mc *vm.Machine) (*plan, error) {
	var p plan
	var volume, folder string
	var port uint64
	var ways []route
	var opts *pb.MigrationOptions
	var asked int64
	v.m.db.view(func(s *pb.State) {
		src, dst := s.Nodes[act.From], s.Nodes[act.To]
		if g := s.Groups[act.Group]; g != nil && dst != nil && src != nil {
			p.from, p.to, port, volume = src.Name, dst.Name, dst.ApiPort, g.Volume
			folder = filepath.Join(v.m.n.opt.StorageDir, g.Volume, g.Folder)
			ways, opts, asked = migrationRoutes(s, src, dst), optionsOf(s, g.Migration.GetOptions()), g.Migration.GetStartedMs()
		}
	})
	if p.to == "" {
		return nil, fmt.Errorf("node %d is in the cluster no more", act.To)
	}
	v.publish(&apipb.MigrationUpdate{Id: act.Migration, Vm: act.Group, From: p.from, To: p.to, Phase: "prepare", AtMs: asked})
	settings := mc.Settings()
	found, err := v.m.suits(ctx, settings, volume, act.To)
	if err != nil {
		return nil, fmt.Errorf("%s could not be asked whether it suits the machine; move it again once `clusterctl node list` shows %s up: %w", p.to, p.to, err)
	}
	if bad := faults(found); len(bad) > 0 {
		return nil, errors.New(strings.Join(bad, "; "))
	}
	text, err := settings.Encode()
	if err != nil {
		return nil, err
	}
	limits, err := bounds(opts)
	if err != nil {
		return nil, err
	}
	way, dial, skipped, err := v.m.findRoute(ctx, act.To, port, ways)
	if err != nil {
		return nil, err
	}
	c, _, why, err := v.m.carriage(ctx, settings.MemoryMiB, false, opts, dial)
	if err != nil {
		return nil, err
	}
	v.m.log.Info("migration", zap.String("machine", act.Group), zap.String("to", p.to), zap.String("network", way.network), zap.Stringer("carriage", c), zap.String("why", why))
	v.change(act.Migration, func(up *apipb.MigrationUpdate) {
		up.Network, up.Carriage, up.Note = way.network, c.String(), strings.Join(skipped, "; ")
	})
	for _, text := range skipped {
		v.tellEvent(cluster.Warning, "migration-path", act.Group, text)
	}
	p.own = limits.Bandwidth
	p.config = agent.SourceConfig{
		ID:      v.m.id.ClusterID + "/" + strconv.FormatUint(act.Migration, 10),
		Offer:   &migrationpb.Offer{Vm: act.Group, Folder: folder, Epoch: act.Epoch, Source: p.from, Settings: bytes.Clone(text)},
		Machine: mc, Dial: dial, Carriage: c, Options: limits,
		Switch:   v.switcher(act),
		Progress: func(p migration.Progress) { v.progress(act.Migration, p) },
		Note: func(text string) {
			v.change(act.Migration, func(up *apipb.MigrationUpdate) { up.Note = text })
		},
		Log: v.m.log.Named("migration"),
	}
	return &p, nil
}
