package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.uber.org/zap"

	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/csv/directory"
	"quorate/quorum/witness"
)

// directoryTimeout bounds the test of a directory by all nodes.
const directoryTimeout = 30 * time.Second

// sharedKind refuses a directory whose file system nodes cannot share, and says what it is.
func (n *Node) sharedKind(dir string) (string, error) {
	if n.opt.DirectoryGuard != nil {
		return n.opt.DirectoryGuard(dir)
	}
	return witness.Shared(dir)
}

// adoptDirectory tests a directory from every node that is up, marks it, and returns the
// id by which it is known again. end takes the mark away where it was not used.
func (m *member) adoptDirectory(ctx context.Context, dir string) (id string, end func(used bool), err error) {
	if err := m.allowed(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Directory: dir}}}); err != nil {
		return "", nil, err
	}
	if !filepath.IsAbs(dir) || filepath.Clean(dir) != dir {
		return "", nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("name the directory as all nodes have it mounted: %q is not an absolute path, or not a short one", dir))
	}
	ctx, cancel := context.WithTimeout(ctx, directoryTimeout)
	defer cancel()
	d := directory.New(dir)
	if err := m.testDirectory(ctx, d, dir); err != nil {
		return "", nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot be a volume: %w", dir, err))
	}
	id = uuid.NewString()
	if err := d.Mark(ctx, id); err != nil {
		return "", nil, connect.NewError(connect.CodeFailedPrecondition, err)
	}
	return id, func(used bool) {
		if used {
			return
		}
		ctx, cancel := context.WithTimeout(m.ctx, openTimeout)
		defer cancel()
		if err := d.Unmark(ctx); err != nil {
			m.log.Warn("a directory that did not become a volume is still marked as one", zap.String("directory", dir), zap.Error(err))
		}
	}, nil
}

// testDirectory has every other node that is up answer in the directory, and looks for
// the answers.
func (m *member) testDirectory(ctx context.Context, d *directory.Directory, dir string) (err error) {
	kind, err := m.n.sharedKind(dir)
	if err != nil {
		return err
	}
	name, nonce := uuid.NewString()[:8], uuid.NewString()
	t, err := d.Begin(ctx, name, nonce)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.End(ctx)) }()
	var others []*pb.Node
	m.db.view(func(s *pb.State) {
		for _, id := range slices.Sorted(maps.Keys(s.Nodes)) {
			if n := s.Nodes[id]; id != m.id.NodeID && n.State == pb.NodeState_NODE_STATE_UP {
				others = append(others, n)
			}
		}
	})
	if len(others) == 0 {
		m.log.Warn("that the directory is the same on all nodes is not tested: it takes two", zap.String("directory", dir))
	}
	var faults []error
	for _, n := range others {
		if err := m.askDirectory(ctx, t, n, &apipb.AnswerDirectoryRequest{Path: dir, Test: name, Nonce: nonce, Answer: uuid.NewString()}, kind); err != nil {
			faults = append(faults, fmt.Errorf("node %s: %w", n.Name, err))
		}
	}
	return errors.Join(faults...)
}

func (m *member) askDirectory(ctx context.Context, t *directory.Test, n *pb.Node, q *apipb.AnswerDirectoryRequest, kind string) error {
	r, done, err := m.remoteTo(n.Id)
	if err != nil {
		return err
	}
	defer done()
	res, err := r.AnswerDirectory(ctx, connect.NewRequest(q))
	switch {
	case err != nil:
		return err
	case res.Msg.Error != "":
		return errors.New(res.Msg.Error)
	case res.Msg.Kind != kind:
		return fmt.Errorf("it is on %s there, and on %s here", res.Msg.Kind, kind)
	}
	return t.Answered(ctx, n.Name, q.Answer)
}

// AnswerDirectory implements the service.
func (h *handlers) AnswerDirectory(ctx context.Context, r *connect.Request[apipb.AnswerDirectoryRequest]) (*connect.Response[apipb.AnswerDirectoryResponse], error) {
	m, err := h.member()
	if err != nil {
		return nil, err
	}
	q := r.Msg
	if !filepath.IsAbs(q.Path) || q.Test == "" || filepath.Base(q.Test) != q.Test {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("%q in %q is no test of a directory", q.Test, q.Path))
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	res := &apipb.AnswerDirectoryResponse{}
	if res.Kind, err = h.n.sharedKind(q.Path); err == nil {
		err = directory.New(q.Path).Answer(ctx, q.Test, q.Nonce, m.id.NodeName, q.Answer)
	}
	if err != nil {
		res.Error = err.Error()
	}
	return connect.NewResponse(res), nil
}

// addDirectory makes a directory a volume.
func (m *member) addDirectory(ctx context.Context, q *apipb.CsvAddRequest) (string, error) {
	if q.Disk != "" || q.Keep || q.Force {
		return "", connect.NewError(connect.CodeInvalidArgument, errors.New("a directory is taken as it is: name no disk, and neither keep nor force it"))
	}
	id, end, err := m.adoptDirectory(ctx, q.Path)
	if err != nil {
		return "", err
	}
	res, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Name: q.Name, Directory: q.Path, DirectoryId: id}}})
	end(!refused(err))
	if err != nil {
		return "", err
	}
	return res.Message, nil
}
