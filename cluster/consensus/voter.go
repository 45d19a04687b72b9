package consensus

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"quorate/internal/mutant"
)

// ErrOutdated ends a witness when a message shows that another host has taken it
// over since.
var ErrOutdated = errors.New("the witness has been taken over by another host")

// VoterConfig is what a voter on a clock is made of.
type VoterConfig struct {
	CoreConfig
	// TickEvery is the length of raft's unit of time, at first: see SetTick.
	TickEvery time.Duration
	// Generation is the hosting generation of a witness, 0 for a node.
	Generation uint64
}

// Status is what a voter says of itself.
type Status struct {
	ID, Leader, Term, Applied, Commit uint64
	IsLeader                          bool
	// LeaderSince is when it became leader.
	LeaderSince time.Time
	// LastQuorum is when, at the latest, a majority followed this leader: the
	// moment at which a round was begun that a majority then answered.
	LastQuorum time.Time
	// Quiet is for how long before LeaderSince no former leader can have
	// heard a majority: voters give no vote within an election timeout of a
	// leader's sign of life, and none so long after their start. It is 0
	// after an election by transfer.
	Quiet    time.Duration
	Voters   []uint64
	Learners []uint64
	// Outgoing are the voters of before while several votes change at once.
	Outgoing []uint64
	// Changing: a change of votes is in the log, and not in these yet.
	Changing bool
	// Members are, on the leader, all whom it sends its log, by their numbers. They are
	// not changed once they were said.
	Members []Member
}

// Member is how a leader sees one of those that have its log, itself included.
type Member struct {
	ID uint64
	// Active: it was heard lately. Match is how far its log agrees with the leader's.
	Active bool
	Match  uint64
}

// Voter is a core with what it makes of time, which is handed to it: since when
// it leads, and when a majority last followed. Replica drives it by the real
// clock, the simulator by its own. It is not safe for concurrent use.
type Voter struct {
	*Core
	cfg          VoterConfig
	status       Status
	lead, follow time.Duration        // lengths of a tick
	rounds       map[uint64]time.Time // read rounds under way: when each was begun
	nextID       uint64
}

// NewVoter starts a voter from what its log held.
func NewVoter(cfg VoterConfig) (*Voter, error) {
	core, err := NewCore(cfg.CoreConfig)
	if err != nil {
		return nil, err
	}
	v := &Voter{Core: core, cfg: cfg, lead: cfg.TickEvery, follow: cfg.TickEvery, rounds: map[uint64]time.Time{}}
	v.observe(time.Time{}) // nobody leads from the start on
	return v, nil
}

// Status is how the voter stood after the last Process.
func (v *Voter) Status() Status { return v.status }

// SetTick sets the length of a tick while the voter leads and while it does not:
// while timings change, a leader gives signs of life by the shorter ones, and
// whoever waits for them waits by the longer.
func (v *Voter) SetTick(lead, follow time.Duration) { v.lead, v.follow = lead, follow }

// TickEvery is after how long the next Tick is due.
func (v *Voter) TickEvery() time.Duration {
	if v.status.IsLeader {
		return v.lead
	}
	return v.follow
}

// Tick lets one unit of raft's time pass, and asks a majority whether it still
// follows.
func (v *Voter) Tick(now time.Time) {
	v.Core.Tick()
	if v.rules() {
		v.rounds[v.Read()] = now
	}
}

// Step takes a message in. generation is its frame's: a witness that sees a
// higher one than its own must end, with ErrOutdated, before it takes the
// message in. Other errors are of messages out of place.
func (v *Voter) Step(m *raftpb.Message, generation uint64) error {
	if v.cfg.Generation != 0 && generation > v.cfg.Generation && !mutant.On("generation ignored") {
		return ErrOutdated
	}
	return v.Core.Step(m)
}

// Read asks for the index at which a read is linearizable. It comes in the
// Output of a later Process with the number that Read returns, or never.
func (v *Voter) Read() uint64 {
	v.nextID++
	v.readIndex(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, v.cfg.ID), v.nextID))
	return v.nextID
}

// Process carries one round of raft's work out (see Core.Process). clock is
// asked when that is done, for it may take time.
func (v *Voter) Process(ctx context.Context, clock func() time.Time) (Output, error) {
	out, err := v.Core.Process(ctx)
	if err != nil {
		return out, fmt.Errorf("voter %d: %w", v.cfg.ID, err)
	}
	if out.Progress {
		v.takeReads(&out)
		v.observe(clock())
	}
	return out, nil
}

// takeReads finds the answers to this voter's own reads.
func (v *Voter) takeReads(out *Output) {
	for _, rs := range out.states {
		if len(rs.RequestCtx) != 16 || binary.BigEndian.Uint64(rs.RequestCtx) != v.cfg.ID {
			continue
		}
		id := binary.BigEndian.Uint64(rs.RequestCtx[8:])
		out.Reads = append(out.Reads, Read{ID: id, Index: rs.Index})
		begun, ok := v.rounds[id]
		if !ok {
			continue
		}
		if begun.After(v.status.LastQuorum) {
			v.status.LastQuorum = begun
		}
		for other, at := range v.rounds {
			if !at.After(begun) {
				delete(v.rounds, other)
			}
		}
	}
}

// observe takes the core's state over.
func (v *Voter) observe(at time.Time) {
	st := v.rn.BasicStatus()
	old := v.status
	now := Status{
		ID: v.cfg.ID, Leader: st.Lead, Term: st.GetTerm(), Applied: v.applied, Commit: st.GetCommit(),
		IsLeader: st.RaftState == raft.StateLeader, Voters: v.conf.GetVoters(),
		Learners: v.conf.GetLearners(), Outgoing: v.conf.GetVotersOutgoing(), Changing: v.Changing(),
		LeaderSince: old.LeaderSince, LastQuorum: old.LastQuorum, Quiet: old.Quiet,
	}
	if next := v.conf.GetLearnersNext(); len(next) > 0 {
		now.Learners = slices.Concat(now.Learners, next)
	}
	if now.IsLeader && (!old.IsLeader || old.Term != now.Term) {
		now.LeaderSince, now.LastQuorum, now.Quiet = at, time.Time{}, 0
		if v.transferred+1 != now.Term {
			now.Quiet = electionTicks * v.follow
		}
		clear(v.rounds)
	}
	if now.IsLeader {
		now.Members = make([]Member, 0, len(now.Voters)+len(now.Outgoing)+len(now.Learners))
		v.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
			now.Members = append(now.Members, Member{ID: id, Active: pr.RecentActive && pr.State != tracker.StateSnapshot, Match: pr.Match})
		})
	} else {
		clear(v.rounds)
	}
	v.status = now
}
