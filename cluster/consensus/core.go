package consensus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
	"google.golang.org/protobuf/proto"

	"quorate/disk/journal"
	"quorate/internal/mutant"
)

// raft's settings, as tried: see docs/architecture.md.
const (
	electionTicks  = 10
	heartbeatTicks = 1
	maxInflight    = 64
	maxMessageSize = 64 << 10
	// What is not committed, and what is under way to a follower, must each fit into
	// one record of the journal, with one command more.
	maxUncommitted = 4 << 20
	maxUnderway    = 4 << 20
	// keepEntries is how many applied entries stay in memory for a voter
	// that is a little behind.
	keepEntries = 1000
)

// MaxCommand bounds a command, in bytes.
const MaxCommand = 1 << 20

// Machine is the replicated state machine. It is called from one goroutine.
type Machine interface {
	// Apply takes one committed command in and returns the id that its
	// proposer gave it, with its result. An error ends the voter: the command
	// cannot be understood here, and to go on without it would be another state.
	Apply(index, term uint64, command []byte) (id uint64, result any, err error)
	// Snapshot returns the whole state.
	Snapshot() ([]byte, error)
	// Restore replaces the whole state.
	Restore(snapshot []byte) error
}

// CoreConfig is what a voter is made of.
type CoreConfig struct {
	ID      uint64
	Log     *Log
	State   State
	Machine Machine
	// Send hands messages on; they may be lost. It is called after what they
	// rest on is durable and confirmed. A node that leads sends its entries
	// while they are being written (raft thesis 10.2.1): they rest on nothing.
	Send func([]*raftpb.Message)
	// Confirm, where set, is called after a message came in and before
	// anything is sent: the witness shows there that it still holds its LUN.
	Confirm func(context.Context) error
	// Guard is for how many ticks after its start the voter gives no vote:
	// it may have acknowledged a leader just before (see Status.Credit).
	Guard int
	// Witness makes the voter give leadership away to the node Host first.
	Witness bool
	Host    uint64
	Logger  raft.Logger
}

// Applied is one command taken in.
type Applied struct {
	ID     uint64
	Result any
}

// Read is the answer to Voter.Read: what was committed by then lies at or before
// Index.
type Read struct{ ID, Index uint64 }

// Output is what one Process brought about.
type Output struct {
	Applied  []Applied
	Reads    []Read
	Restored bool // a snapshot replaced the state
	Progress bool // anything at all was done

	states []raft.ReadState // of everybody's reads
}

// Core is one voter. It is not safe for concurrent use.
type Core struct {
	cfg     CoreConfig
	rn      *raft.RawNode
	store   *storage
	hard    *raftpb.HardState
	conf    *raftpb.ConfState
	applied uint64
	// changing is set while a configuration change is applied: a snapshot
	// made then would have the old one.
	changing bool
	// lastChange is the index of the last configuration change in the log; it is under way
	// until that is applied.
	lastChange uint64
	durable    uint64 // the commit index that the log has

	begun *round // of Process, while a part of it is done

	ticks       int    // since the start
	led         int    // at how many ticks a leader was heard last, or led here
	leader      uint64 // that leader; 0 since the start
	sinceHup    int    // ticks since the last forced campaign
	transferred uint64 // the term before an election by transfer
	hosting     bool
	keep        bool
}

// NewCore starts a voter from what its log held.
func NewCore(cfg CoreConfig) (*Core, error) {
	store, err := newStorage(cfg.State)
	if err != nil {
		return nil, fmt.Errorf("raft state of voter %d: %w", cfg.ID, err)
	}
	meta := cfg.State.Snapshot.GetMetadata()
	c := &Core{
		cfg: cfg, store: store, hard: cfg.State.Hard, conf: meta.GetConfState(), applied: meta.GetIndex(), transferred: noTerm,
		durable: cfg.State.Hard.GetCommit(), lastChange: lastChange(cfg.State.Entries),
	}
	if c.hard.GetCommit() < c.applied {
		return nil, fmt.Errorf("raft state of voter %d: commit %d lies before the snapshot at %d", cfg.ID, c.hard.GetCommit(), c.applied)
	}
	store.snapshot = c.snapshot
	if err := cfg.Machine.Restore(cfg.State.Snapshot.GetData()); err != nil {
		return nil, fmt.Errorf("restore the database of voter %d: %w", cfg.ID, err)
	}
	c.rn, err = raft.NewRawNode(&raft.Config{
		ID: cfg.ID, ElectionTick: electionTicks, HeartbeatTick: heartbeatTicks, Storage: store, Applied: c.applied,
		MaxSizePerMsg: maxMessageSize, MaxInflightMsgs: maxInflight, MaxInflightBytes: maxUnderway, MaxUncommittedEntriesSize: maxUncommitted,
		CheckQuorum: true, PreVote: true, StepDownOnRemoval: true, ReadOnlyOption: raft.ReadOnlySafe, Logger: cfg.Logger,
	})
	return c, err
}

const noTerm = 1<<64 - 1

// Tick lets one unit of raft's time pass.
func (c *Core) Tick() {
	c.ticks++
	c.sinceHup++
	c.noteLead()
	c.rn.Tick()
	if c.cfg.Witness {
		c.giveAway()
	} else if rank, may := c.rank(); may && !c.Leader() && c.quiet() >= electionTicks+campaignEvery*rank && c.sinceHup >= campaignEvery+rank {
		c.sinceHup = 0
		_ = c.rn.Campaign()
	}
}

// noteLead notes that this voter leads, if it does.
func (c *Core) noteLead() {
	if c.Leader() {
		c.led, c.leader = c.ticks, c.cfg.ID
	}
}

// quiet is for how many ticks no leader was heard, nor led here.
func (c *Core) quiet() int { return c.ticks - c.led }

// campaignEvery is how many ticks lie between the campaigns of two voters, and, a
// little different for each, between two of one.
const campaignEvery = 2

// rank is this voter's turn when the leader has gone silent: nodes campaign one
// after the other, so that they do not split the votes, and earlier than raft's own
// timer would mostly make them. Whoever holds the witness goes first, for it is
// half of a majority already. Who has no vote leaves it to raft.
func (c *Core) rank() (rank int, may bool) {
	if c.hosting {
		return 0, true
	}
	rank = 1
	for _, id := range c.conf.GetVoters() {
		if id < c.cfg.ID && id != c.leader {
			rank++
		}
	}
	return rank, slices.Contains(c.conf.GetVoters(), c.cfg.ID)
}

// SetHosting tells a node's voter whether the witness lives with it.
func (c *Core) SetHosting(on bool) { c.hosting = on }

// SetKeep tells a witness whether it keeps leadership once it has it: where it
// alone is to vote.
func (c *Core) SetKeep(on bool) { c.keep = on }

// rules tells whether a leader leads for good: a node does, and a witness that
// keeps leadership or can give it to nobody, since no node votes.
func (c *Core) rules() bool { return c.Leader() && (!c.cfg.Witness || c.keep || !c.nodesVote()) }

func (c *Core) nodesVote() bool {
	return slices.ContainsFunc(c.conf.GetVoters(), isNode) || slices.ContainsFunc(c.conf.GetVotersOutgoing(), isNode)
}

// isNode tells a node's voter from a witness's.
func isNode(id uint64) bool { return id < FirstWitness }

// Campaign starts an election now.
func (c *Core) Campaign() error { return c.rn.Campaign() }

// Propose hands commands to raft, which takes all of them or none and sends them
// on together; raft.ErrProposalDropped asks to try again.
func (c *Core) Propose(commands ...[]byte) error {
	entries := make([]*raftpb.Entry, len(commands))
	for i, data := range commands {
		entries[i] = &raftpb.Entry{Data: data}
	}
	return c.rn.Step(&raftpb.Message{Type: raftpb.MsgProp.Enum(), From: proto.Uint64(c.cfg.ID), Entries: entries})
}

// ProposeConf hands a configuration change to raft, which was decided in a term. It
// counts in no other: the leader of that term alone takes it (raft.ErrProposalDropped),
// and it is forwarded to nobody, for whoever leads elsewhere does not know of it when it
// decides itself. A leader takes none that ends its own vote.
func (c *Core) ProposeConf(term uint64, cc raftpb.ConfChangeI) error {
	if !c.Leader() || c.rn.BasicStatus().GetTerm() != term || c.endsOwnVote(cc.AsV2()) {
		return raft.ErrProposalDropped
	}
	return c.rn.ProposeConfChange(cc)
}

// Changing tells whether a configuration change is in the log that is not applied.
func (c *Core) Changing() bool { return c.lastChange > c.applied }

func isChange(e *raftpb.Entry) bool { return e.GetType() != raftpb.EntryNormal }

// lastChange is the index of the last configuration change among entries, or 0.
func lastChange(entries []*raftpb.Entry) uint64 {
	for _, e := range slices.Backward(entries) {
		if isChange(e) {
			return e.GetIndex()
		}
	}
	return 0
}

func (c *Core) endsOwnVote(cc *raftpb.ConfChangeV2) bool {
	for _, ch := range cc.GetChanges() {
		if ch.GetNodeId() == c.cfg.ID && ch.GetType() != raftpb.ConfChangeAddNode && !mutant.On("leader removed") {
			return true
		}
	}
	return false
}

func (c *Core) readIndex(rctx []byte) { c.rn.ReadIndex(rctx) }

// Transfer hands leadership to another voter.
func (c *Core) Transfer(to uint64) { c.rn.TransferLeader(to) }

// Step takes a message in.
func (c *Core) Step(m *raftpb.Message) error {
	c.noteLead()
	switch m.GetType() {
	case raftpb.MsgPreVote, raftpb.MsgVote:
		if string(m.GetContext()) != campaignTransfer && !c.mayVote() {
			return nil
		}
	case raftpb.MsgApp, raftpb.MsgHeartbeat, raftpb.MsgSnap:
		c.led, c.leader = c.ticks, m.GetFrom()
	case raftpb.MsgProp:
		// A node of an earlier version forwards what it decided on votes.
		if slices.ContainsFunc(m.GetEntries(), isChange) {
			return raft.ErrProposalDropped
		}
	case raftpb.MsgTimeoutNow:
		c.transferred = m.GetTerm()
	}
	if err := c.rn.Step(m); err != nil {
		return err
	}
	if c.cfg.Witness && (m.GetType() == raftpb.MsgPreVote || m.GetType() == raftpb.MsgVote) && c.ahead(m) {
		// The candidate misses something that only the witness knows.
		if string(m.GetContext()) == campaignTransfer { // others vote for it as they would have for the candidate
			c.transferred = m.GetTerm()
			return c.rn.Step(&raftpb.Message{Type: raftpb.MsgTimeoutNow.Enum(), From: m.From, To: m.To, Term: m.Term})
		}
		return c.rn.Campaign()
	}
	return nil
}

// mayVote tells whether this voter may vote where no leader has handed over: no leader
// was heard for an election's time, whatever the terms since, nor can one have been
// before the start. raft forgets the leader with each term that another begins, and a
// new leader counts on that time (Status.Quiet).
func (c *Core) mayVote() bool {
	if mutant.On("vote right after the start") {
		return true
	}
	return c.ticks >= c.cfg.Guard && (c.leader == raft.None || c.quiet() >= electionTicks)
}

// campaignTransfer marks the vote requests of an election by transfer (raft.go).
const campaignTransfer = "CampaignTransfer"

func (c *Core) ahead(m *raftpb.Message) bool {
	st := c.rn.BasicStatus()
	if st.Lead != raft.None {
		return false
	}
	last, _ := c.store.LastIndex()
	term, _ := c.store.Term(last)
	return term > m.GetLogTerm() || (term == m.GetLogTerm() && last > m.GetIndex())
}

// giveAway makes a witness that leads pass leadership on to a node: to its host first.
// Another witness would only give it back.
func (c *Core) giveAway() {
	if !c.Leader() || c.keep {
		return
	}
	best := raft.None
	c.rn.WithProgress(func(id uint64, typ raft.ProgressType, pr tracker.Progress) {
		if !isNode(id) || typ == raft.ProgressTypeLearner || !pr.RecentActive || pr.State != tracker.StateReplicate {
			return
		}
		if id == c.cfg.Host || best == raft.None || (best != c.cfg.Host && id < best) {
			best = id
		}
	})
	if best != raft.None {
		c.rn.TransferLeader(best)
	}
}

// Leader tells whether this voter leads.
func (c *Core) Leader() bool { return c.rn.BasicStatus().RaftState == raft.StateLeader }

// Process carries one round of raft's work out: persist, confirm, send, apply,
// advance. Call it until there is no Progress: where commands that are durable here
// were committed it returns with them first, and goes on with the round when it is
// called again. After an error the voter must be thrown away: what is on its disk is
// unknown until it is read again.
func (c *Core) Process(ctx context.Context) (Output, error) {
	if c.begun == nil {
		if !c.rn.HasReady() {
			return Output{}, nil
		}
		out := Output{Progress: true}
		if err := c.begin(c.rn.Ready(), &out); err != nil || len(out.Applied) > 0 {
			return out, err
		}
	}
	rd, messages, rest := c.begun.Ready, c.begun.late, c.begun.rest
	c.begun = nil
	out := Output{states: rd.ReadStates, Progress: true}
	if rd.HardState != nil && !mutant.On("hard state left out") {
		c.hard = rd.HardState
	}
	if at := lastChange(rd.Entries); at > 0 {
		c.lastChange = at
	}
	if err := c.persist(ctx, rd, rest, &out); err != nil && (!c.cfg.Witness || !mutant.On("failed write acknowledged")) {
		return out, err
	}
	if c.cfg.Confirm != nil && !mutant.On("unconfirmed witness speaks") && len(messages)+len(rd.ReadStates) > 0 {
		if err := c.cfg.Confirm(ctx); err != nil {
			return out, err
		}
	}
	if mutant.On("applied before it is committed") && c.Leader() {
		rest = slices.Concat(rest, slices.DeleteFunc(slices.Clone(rd.Entries), isChange))
	}
	c.send(messages)
	for _, m := range messages {
		if m.GetType() == raftpb.MsgSnap {
			// A lost one is asked for again after the next probe.
			defer c.rn.ReportSnapshot(m.GetTo(), raft.SnapshotFinish)
		}
	}
	for _, e := range rest {
		if err := c.apply(e, &out); err != nil {
			return out, err
		}
	}
	c.rn.Advance(rd)
	return out, c.compactIfCrowded(ctx)
}

// round is one of raft's of which a part is done: what need not wait for the disk.
type round struct {
	raft.Ready
	late []*raftpb.Message // that wait
	rest []*raftpb.Entry   // committed and not applied
}

// begin does what need not wait for the disk: the entries that go out, and those
// that are committed and were durable here before.
func (c *Core) begin(rd raft.Ready, out *Output) error {
	c.begun = &round{Ready: rd, late: rd.Messages, rest: rd.CommittedEntries}
	if !c.mayHurry(rd) {
		return nil
	}
	var early []*raftpb.Message
	early, c.begun.late = hurried(rd.Messages)
	c.send(early)
	for len(c.begun.rest) > 0 && len(rd.Entries) > 0 && c.begun.rest[0].GetIndex() < rd.Entries[0].GetIndex() && !isChange(c.begun.rest[0]) {
		if err := c.apply(c.begun.rest[0], out); err != nil {
			return err
		}
		c.begun.rest = c.begun.rest[1:]
	}
	return nil
}

func (c *Core) send(ms []*raftpb.Message) {
	if len(ms) > 0 {
		c.cfg.Send(ms)
	}
}

// mayHurry tells whether a leader's entries may go out before they are durable
// here: the leader counts its own only afterwards. Its term and vote must be
// durable already, or it could lead the same term again after a crash, with other
// entries. The witness says nothing before its LUN has it. Nor does a voter that is
// the only one: a member with an entry that it has lost again would refuse it the
// vote that it needs by the votes of before, and have none to lead itself.
func (c *Core) mayHurry(rd raft.Ready) bool {
	return !c.cfg.Witness && len(c.conf.GetVoters()) > 1 && (rd.HardState == nil || rd.GetTerm() == c.hard.GetTerm() && rd.GetVote() == c.hard.GetVote())
}

// hurried parts what may go out early from what waits.
func hurried(ms []*raftpb.Message) (early, late []*raftpb.Message) {
	for _, m := range ms {
		if m.GetType() == raftpb.MsgApp {
			early = append(early, m)
		} else {
			late = append(late, m)
		}
	}
	return early, late
}

// persist makes durable what raft gave out. rest is what is about to be applied: a
// configuration change counts from then on, so that its commit must be durable first. A
// voter that started again with the votes of before could wait for one that is gone.
func (c *Core) persist(ctx context.Context, rd raft.Ready, rest []*raftpb.Entry, out *Output) error {
	unsafe := lastChange(rest) > c.durable
	if !raft.IsEmptySnap(rd.Snapshot) {
		if err := c.cfg.Log.Compact(ctx, rd.Snapshot, c.hard, rd.Entries); err != nil {
			return err
		}
		c.durable = c.hard.GetCommit()
		if err := c.store.ApplySnapshot(rd.Snapshot); err != nil {
			return err
		}
		if err := c.cfg.Machine.Restore(rd.Snapshot.GetData()); err != nil {
			return fmt.Errorf("restore the database from the leader's snapshot: %w", err)
		}
		c.applied, c.conf, out.Restored = rd.Snapshot.GetMetadata().GetIndex(), rd.Snapshot.GetMetadata().GetConfState(), true
	} else if len(rd.Entries) > 0 || rd.MustSync || unsafe {
		err := c.cfg.Log.Save(ctx, c.hard, rd.Entries)
		if errors.Is(err, journal.ErrFull) {
			if err = c.compact(ctx, rd.Entries); err == nil {
				err = c.cfg.Log.Save(ctx, c.hard, rd.Entries)
			}
		}
		if err != nil {
			return err
		}
		c.durable = c.hard.GetCommit()
	}
	if rd.HardState != nil {
		if err := c.store.SetHardState(rd.HardState); err != nil {
			return err
		}
	}
	return c.store.Append(rd.Entries)
}

func (c *Core) apply(e *raftpb.Entry, out *Output) error {
	switch e.GetType() {
	case raftpb.EntryNormal:
		c.applied = e.GetIndex()
		if len(e.GetData()) == 0 {
			return nil
		}
		id, result, err := c.cfg.Machine.Apply(e.GetIndex(), e.GetTerm(), e.GetData())
		if err != nil {
			return fmt.Errorf("apply entry %d: %w", e.GetIndex(), err)
		}
		out.Applied = append(out.Applied, Applied{ID: id, Result: result})
	case raftpb.EntryConfChange:
		cc := &raftpb.ConfChange{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("configuration change at %d: %w", e.GetIndex(), err)
		}
		c.change(e, cc)
	case raftpb.EntryConfChangeV2:
		cc := &raftpb.ConfChangeV2{}
		if err := proto.Unmarshal(e.GetData(), cc); err != nil {
			return fmt.Errorf("configuration change at %d: %w", e.GetIndex(), err)
		}
		c.change(e, cc)
	}
	return nil
}

func (c *Core) change(e *raftpb.Entry, cc raftpb.ConfChangeI) {
	c.changing = true
	c.conf = c.rn.ApplyConfChange(cc)
	c.changing = false
	c.applied = e.GetIndex()
}

// snapshot makes one at the applied index.
func (c *Core) snapshot() (*raftpb.Snapshot, error) {
	if c.changing {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	data, err := c.cfg.Machine.Snapshot()
	if c.cfg.Witness && mutant.On("witness without database") {
		data = nil
	}
	if err != nil {
		return nil, err
	}
	term, err := c.store.Term(c.applied)
	if err != nil {
		return nil, err
	}
	return &raftpb.Snapshot{Data: data, Metadata: &raftpb.SnapshotMetadata{
		Index: proto.Uint64(c.applied), Term: proto.Uint64(term), ConfState: c.conf,
	}}, nil
}

func (c *Core) compactIfCrowded(ctx context.Context) error {
	if !c.cfg.Log.Crowded() {
		return nil
	}
	return c.compact(ctx, nil)
}

// compact writes a snapshot at the applied index and what follows it. Entries
// not yet in the store are about to be saved by the caller.
func (c *Core) compact(ctx context.Context, coming []*raftpb.Entry) error {
	snap, err := c.snapshot()
	if err != nil {
		return err
	}
	rest, err := c.store.after(c.applied)
	if err != nil {
		return err
	}
	if len(coming) > 0 {
		// Entries that the coming ones replace must not come back.
		for i, e := range rest {
			if e.GetIndex() >= coming[0].GetIndex() {
				rest = rest[:i]
				break
			}
		}
	}
	if err := c.cfg.Log.Compact(ctx, snap, c.hard, rest); err != nil {
		return err
	}
	if first, err := c.store.FirstIndex(); err == nil && c.applied > first+keepEntries {
		return c.store.Compact(c.applied - keepEntries)
	}
	return nil
}
