package node

import (
	"context"
	"fmt"
	"math/rand/v2"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// claim makes this node the only one that gets a disk ready for something: it comes
// before the first write. The command that gives the disk its role names the claim. end
// is called when that is over, and gives the claim up where the disk was not used. A
// database that has no claims yet gives none.
func (m *member) claim(ctx context.Context, d *pb.Disk, purpose string) (id uint64, end func(used bool), err error) {
	if !m.claiming.begin(d.Id) {
		return 0, nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is being made ready by this node: wait until that has ended", d.Name))
	}
	id = rand.Uint64() | 1
	cmd := &pb.DiskClaim{Disk: d.Id, Claim: &pb.Claim{Id: id, Node: m.id.NodeID, Purpose: purpose}}
	var early error
	m.db.view(func(s *pb.State) {
		early = cluster.Allowed(s, &pb.Command{Kind: &pb.Command_DiskClaim{DiskClaim: cmd}})
	})
	if early != nil {
		return 0, func(bool) { m.claiming.end(d.Id) }, nil
	}
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_DiskClaim{DiskClaim: cmd}}); err != nil {
		m.claiming.end(d.Id)
		return 0, nil, err
	}
	return id, func(used bool) {
		defer m.claiming.end(d.Id)
		if used {
			return
		}
		release := &pb.DiskClaim{Disk: d.Id, Claim: cmd.Claim, Release: true}
		if _, err := m.propose(m.ctx, &pb.Command{Kind: &pb.Command_DiskClaim{DiskClaim: release}}); err != nil {
			m.log.Warn("the claim on a disk was not given up: this node gets it anew", zap.String("disk", d.Name), zap.Error(err))
		}
	}, nil
}
