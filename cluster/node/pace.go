package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// paceFile names the profile by which this node last waited. Until a voter that
// starts has caught up with the database, it waits by that at least.
const paceFile = "sensitivity"

// settleTimeout is for how long nodes may take to live by another sensitivity: the
// longest lease must run out, and the longest elections.
const settleTimeout = time.Minute

// patience is since when this node's voters wait by a profile at least.
type patience struct {
	profile cluster.Profile
	since   time.Time
}

// timings are what this node lives by now.
func (m *member) timings() cluster.Timings { return *m.pace.Load() }

// beginPace sets the timings before the replica has started. A node that does not
// know the cluster's waits by the longest.
func (m *member) beginPace(fresh bool) error {
	p := cluster.Longest()
	text, err := os.ReadFile(filepath.Join(m.n.opt.StateDir, paceFile))
	switch {
	case errors.Is(err, fs.ErrNotExist) && fresh:
		p = m.named
		if err := m.recordPace(p); err != nil {
			return err
		}
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if p, err = cluster.ProfileNamed(strings.TrimSpace(string(text))); err != nil {
			return fmt.Errorf("%s: %w", filepath.Join(m.n.opt.StateDir, paceFile), err)
		}
	}
	m.pace.Store(&cluster.Timings{Short: p, Long: p})
	m.patient.Store(&patience{p, time.Now()})
	return nil
}

// recordPace writes down by what this node waits, for when it starts again.
func (m *member) recordPace(p cluster.Profile) error {
	return os.WriteFile(filepath.Join(m.n.opt.StateDir, paceFile), []byte(p.Name+"\n"), 0o600)
}

// keepPace makes everything on this node keep time as the database says.
func (m *member) keepPace() {
	for {
		next := m.db.next()
		t, known := m.wanted()
		if known && t.Long.Tick < m.timings().Long.Tick {
			// A replica of yesterday makes nobody less patient.
			if known = m.barrier(m.ctx) == nil; known {
				t, known = m.wanted()
			}
		}
		if known {
			m.setPace(t)
		}
		select {
		case <-m.ctx.Done():
			return
		case <-next:
		case <-time.After(time.Second): // a witness came, or the replica was too busy to hear it
		}
	}
}

// wanted are the timings by this node's replica.
func (m *member) wanted() (t cluster.Timings, known bool) {
	m.db.view(func(s *pb.State) {
		if known = s.Cluster != nil; known {
			t = cluster.TimingsOf(s, m.named)
		}
	})
	return t, known
}

func (m *member) setPace(t cluster.Timings) {
	old := m.timings()
	if old != t {
		// Before anybody may count on it.
		if err := m.recordPace(t.Long); err != nil {
			m.log.Warn("the sensitivity is not recorded, and not lived by", zap.Error(err))
			return
		}
		m.log.Info("the node lives by other timings", zap.String("gives signs of life by", t.Short.Name), zap.String("waits by", t.Long.Name))
		m.pace.Store(&t)
	}
	if !m.raft.SetTick(t.Short.Tick, t.Long.Tick) {
		return
	}
	if m.patient.Load().profile != t.Long {
		m.patient.Store(&patience{t.Long, time.Now()})
	}
	m.transport.SetKeepAlive(t.Short.Tick)
	for _, h := range m.hosting.list() {
		h.setPace(t)
	}
}

// ticked is for how long the voters have waited by the cluster's sensitivity at
// least.
func (m *member) ticked() (long time.Duration) {
	m.db.view(func(s *pb.State) {
		p, err := cluster.ProfileNamed(s.GetCluster().GetSensitivity())
		if have := m.patient.Load(); err == nil && have.profile.Tick >= p.Tick {
			long = time.Since(have.since)
		}
	})
	return long
}

// setSensitivity changes the cluster's timings, and waits until every node that is
// up lives by them.
func (m *member) setSensitivity(ctx context.Context, name string) error {
	if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_ClusterSet{ClusterSet: &pb.ClusterSet{Sensitivity: &name}}}); err != nil {
		return err
	}
	return m.until(ctx, settleTimeout, "every node that is up lives by the sensitivity "+name, func(s *pb.State) (bool, error) {
		waiting := slices.ContainsFunc(sortedNodes(s), func(n *pb.Node) bool { return n.State == pb.NodeState_NODE_STATE_UP && len(n.Profiles) > 0 })
		return !waiting, nil
	})
}
