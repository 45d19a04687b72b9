package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/quorum"
)

// Votes is how many votes there are, as this node sees it.
type Votes struct{ Have, Needed, Total int }

// QuorumError says that a command was not committed for want of votes.
type QuorumError struct{ Votes }

func (e *QuorumError) Error() string {
	return fmt.Sprintf("no quorum: %d of %d votes are there, %d are needed", e.Have, e.Total, e.Needed)
}

// RefusedError is a command that the database refused.
type RefusedError struct{ *pb.Result }

func (e *RefusedError) Error() string { return e.Message }

// refused tells whether an error means that a command was not carried out for sure.
func refused(err error) bool {
	var r *RefusedError
	return errors.As(err, &r)
}

// propose replicates a command and returns its result. The error is a
// *QuorumError where a majority is missing, and a *RefusedError where the
// database refused; anything else leaves it unknown whether it was committed.
func (m *member) propose(ctx context.Context, cmd *pb.Command) (*pb.Result, error) {
	cmd.Id = rand.Uint64() | 1
	return m.proposeAgain(ctx, cmd)
}

// proposeAgain is propose for a command that has its id already: committed twice
// it counts once.
func (m *member) proposeAgain(ctx context.Context, cmd *pb.Command) (*pb.Result, error) {
	if cmd.AtMs == 0 {
		cmd.AtMs = time.Now().UnixMilli()
	}
	cmd.By = m.id.NodeID
	if err := m.allowed(cmd); err != nil {
		return nil, err
	}
	data, err := proto.Marshal(cmd)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, proposeTimeout)
	defer cancel()
	res, err := m.raft.Propose(ctx, cmd.Id, data)
	if err != nil {
		return nil, m.explain(err)
	}
	r := res.(*pb.Result)
	if r.Code != pb.Code_CODE_OK {
		return r, &RefusedError{r}
	}
	return r, nil
}

// explain turns a wait that ended into what an operator can use.
func (m *member) explain(err error) error {
	if v := m.votes(); v.Have < v.Needed {
		return &QuorumError{v}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer from the cluster within %v: there is no leader at the moment, or it is overloaded; try again: %w", proposeTimeout, err)
	}
	return err
}

// allowed refuses a command that the database's format does not have yet, before
// anything is done for it.
func (m *member) allowed(cmd *pb.Command) error {
	var early error
	m.db.view(func(s *pb.State) { early = cluster.Allowed(s, cmd) })
	if early != nil {
		return &RefusedError{&pb.Result{Code: pb.Code_CODE_REFUSED, Message: early.Error()}}
	}
	return nil
}

// barrier makes what is read from the replica afterwards linearizable.
func (m *member) barrier(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := m.raft.Barrier(ctx); err != nil {
		return m.explain(err)
	}
	return nil
}

// votes counts the voters that this node can see.
func (m *member) votes() Votes {
	st, s := m.raft.Status(), m.standing()
	v := Votes{Total: len(st.Voters), Needed: quorum.Needed(len(st.Voters))}
	for _, id := range st.Voters {
		if s.Here[id] {
			v.Have++
		}
	}
	return v
}

// standing is how the votes stand, as this node sees it.
func (m *member) standing() quorum.Standing {
	st := m.raft.Status()
	heard := m.transport.Heard()
	limit := time.Now().Add(-m.timings().Long.Election)
	s := quorum.Standing{
		Now:  quorum.Configuration{Voters: st.Voters, Learners: st.Learners, Outgoing: st.Outgoing},
		Here: map[uint64]bool{m.id.NodeID: true},
	}
	for _, id := range slices.Concat(st.Voters, st.Learners, st.Outgoing) {
		if id >= consensus.FirstWitness {
			s.Here[id] = m.hosting.hosts(id) || heard[m.transport.Host(id)].After(limit)
		} else if id != m.id.NodeID {
			s.Here[id] = heard[id].After(limit)
		}
	}
	return s
}

// raftLogger gives raft's own words to zap, a level down: they are for those who
// look for a fault.
type raftLogger struct{ s *zap.SugaredLogger }

func (l raftLogger) Debug(v ...any)              { l.s.Debug(v...) }
func (l raftLogger) Debugf(f string, v ...any)   { l.s.Debugf(f, v...) }
func (l raftLogger) Info(v ...any)               { l.s.Debug(v...) }
func (l raftLogger) Infof(f string, v ...any)    { l.s.Debugf(f, v...) }
func (l raftLogger) Warning(v ...any)            { l.s.Info(v...) }
func (l raftLogger) Warningf(f string, v ...any) { l.s.Infof(f, v...) }
func (l raftLogger) Error(v ...any)              { l.s.Error(v...) }
func (l raftLogger) Errorf(f string, v ...any)   { l.s.Errorf(f, v...) }
func (l raftLogger) Fatal(v ...any)              { l.s.Panic(v...) }
func (l raftLogger) Fatalf(f string, v ...any)   { l.s.Panicf(f, v...) }
func (l raftLogger) Panic(v ...any)              { l.s.Panic(v...) }
func (l raftLogger) Panicf(f string, v ...any)   { l.s.Panicf(f, v...) }
