package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// share is the witness in a folder, from this node.
func (n *Node) share(folder, clusterID string) *witness.Share {
	return witness.NewShare(witness.ShareOptions{Folder: folder, ClusterID: clusterID, Guarded: n.opt.ShareGuard})
}

// guards refuses a directory whose file system cannot guard a witness.
func (n *Node) guards(dir string) error {
	if n.opt.ShareGuard != nil {
		return n.opt.ShareGuard(dir)
	}
	return witness.Guarded(dir)
}

// prepareShare makes a witness in a directory of a share, unless the present one is
// there, and puts it into the command. end removes it where it is not used.
func (m *member) prepareShare(ctx context.Context, dir string, cmd *pb.QuorumSet) (end func(used bool), err error) {
	var present string
	var early error
	m.db.view(func(s *pb.State) {
		present = s.Quorum.WitnessShare
		early = cluster.Allowed(s, &pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: cmd}})
	})
	switch {
	case early != nil:
		return nil, connect.NewError(connect.CodeFailedPrecondition, early)
	case present != "" && (dir == "" || filepath.Clean(dir) == filepath.Dir(present)):
		cmd.WitnessShare = present
		return func(bool) {}, nil
	case !filepath.IsAbs(dir):
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("name the directory with --share, as all nodes have it mounted: %q is not an absolute path", dir))
	}
	ctx, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	cmd.WitnessShare = witness.NewFolder(dir, m.id.ClusterID, uuid.NewString()[:8])
	share := m.n.share(cmd.WitnessShare, m.id.ClusterID)
	if err := share.Format(ctx, m.incarnation); err != nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("make the witness on the share: %w", err))
	}
	end = func(used bool) {
		if used {
			return
		}
		ctx, cancel := context.WithTimeout(m.ctx, openTimeout)
		defer cancel()
		if err := share.Remove(ctx); err != nil {
			m.log.Warn("a witness that was not used is left on the share: remove it", zap.String("folder", cmd.WitnessShare), zap.Error(err))
		}
	}
	if err := m.testShare(ctx, share, cmd.WitnessShare); err != nil {
		end(false)
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot hold the witness: %w", dir, err))
	}
	return end, nil
}

// testShare refuses a share that a node that is up does not see, or whose lock does not
// hold between the nodes. One node alone cannot find that out.
func (m *member) testShare(ctx context.Context, share *witness.Share, folder string) error {
	place, err := share.Open(ctx)
	if err != nil {
		return err
	}
	defer place.Close()
	held, err := place.Take(ctx, quorum.Beat{})
	if err != nil {
		return err
	}
	var others []*pb.Node
	m.db.view(func(s *pb.State) {
		for id, n := range s.Nodes {
			if id != m.id.NodeID && n.State == pb.NodeState_NODE_STATE_UP {
				others = append(others, n)
			}
		}
	})
	if len(others) == 0 {
		m.log.Warn("the witness's lock is not tested: it takes two nodes", zap.String("folder", folder))
	}
	var faults []error
	for _, n := range others {
		if err := m.probeShare(ctx, n.Id, folder); err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", n.Name, err))
		}
	}
	return errors.Join(append(faults, held.Release(ctx))...)
}

// probeShare has another node look at the folder, whose lock this one has.
func (m *member) probeShare(ctx context.Context, id uint64, folder string) error {
	r, done, err := m.remoteTo(id)
	if err != nil {
		return err
	}
	defer done()
	res, err := r.ProbeShare(ctx, connect.NewRequest(&apipb.ProbeShareRequest{Folder: folder, ClusterId: m.id.ClusterID}))
	switch {
	case err != nil:
		return err
	case res.Msg.Error != "":
		return errors.New(res.Msg.Error)
	}
	return nil
}

// ProbeShare implements the service.
func (h *handlers) ProbeShare(ctx context.Context, r *connect.Request[apipb.ProbeShareRequest]) (*connect.Response[apipb.ProbeShareResponse], error) {
	if !strings.HasPrefix(filepath.Base(r.Msg.Folder), "quorate-witness-") {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q is no folder of a witness", r.Msg.Folder))
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	res := &apipb.ProbeShareResponse{}
	if err := h.n.share(r.Msg.Folder, r.Msg.ClusterId).Probe(ctx); err != nil {
		res.Error = err.Error()
	}
	return connect.NewResponse(res), nil
}
