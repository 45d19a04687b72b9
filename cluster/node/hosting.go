package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/google/uuid"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/cluster/validate"
	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// hostings is this node's part in the witness, and in the one of before while it
// still has a vote.
type hostings struct {
	m *member

	mu  sync.Mutex
	all map[uint64]*hosting // by voter
}

func newHostings(m *member) *hostings { return &hostings{m: m, all: map[uint64]*hosting{}} }

// run keeps them as the database wants it.
func (hs *hostings) run() {
	defer hs.want(nil)
	for {
		next := hs.m.db.next()
		places := map[uint64]place{} // by voter
		keep := false
		hs.m.db.view(func(s *pb.State) {
			q := s.GetQuorum()
			keep = q.GetMode() == pb.QuorumMode_QUORUM_MODE_DISK_ONLY
			add := func(voter uint64, disk, share string) {
				switch {
				case disk != "":
					places[voter] = place{url: diskURL(s.Disks[disk], hs.m.id.NodeID)}
				case share != "":
					places[voter] = place{share: share}
				}
			}
			add(q.GetWitnessVoter(), q.GetWitnessDisk(), q.GetWitnessShare())
			add(q.GetFormerVoter(), q.GetFormerDisk(), q.GetFormerShare())
		})
		hs.want(places)
		for _, h := range hs.list() {
			h.setKeep(keep)
		}
		select {
		case <-hs.m.ctx.Done():
			return
		case <-next:
		}
	}
}

// want ends the hosts of what is no witness any more, and begins new ones.
func (hs *hostings) want(places map[uint64]place) {
	for _, h := range hs.list() {
		if at, ok := places[h.voter]; !ok || at != h.at {
			hs.mu.Lock()
			delete(hs.all, h.voter)
			hs.mu.Unlock()
			h.host.Stop()
		}
	}
	for voter, at := range places {
		hs.mu.Lock()
		known := hs.all[voter] != nil
		hs.mu.Unlock()
		if known || hs.m.ctx.Err() != nil {
			continue
		}
		h := newHosting(hs.m, voter, at)
		hs.mu.Lock()
		hs.all[voter] = h
		hs.mu.Unlock()
	}
}

func (hs *hostings) list() []*hosting {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return slices.Collect(maps.Values(hs.all))
}

func (hs *hostings) of(voter uint64) *hosting {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	return hs.all[voter]
}

// deliver gives a witness a message, if it is here.
func (hs *hostings) deliver(msg *raftpb.Message, generation uint64) {
	if h := hs.of(msg.GetTo()); h != nil {
		if r := h.instance(); r != nil {
			r.Step(msg, generation)
		}
	}
}

// hosts tells whether a witness is here.
func (hs *hostings) hosts(voter uint64) bool {
	h := hs.of(voter)
	return h != nil && h.instance() != nil
}

// votes tells whether one is here that has a vote.
func (hs *hostings) votes() bool {
	voters := hs.m.raft.Status().Voters
	return slices.ContainsFunc(hs.list(), func(h *hosting) bool { return h.instance() != nil && slices.Contains(voters, h.voter) })
}

// statuses are those of the witnesses that are here.
func (hs *hostings) statuses() []consensus.Status {
	var out []consensus.Status
	for _, h := range hs.list() {
		if r := h.instance(); r != nil {
			out = append(out, r.Status())
		}
	}
	return out
}

// status is for operators.
func (hs *hostings) status(voter uint64) witness.Status {
	if h := hs.of(voter); h != nil {
		return h.host.Status()
	}
	return witness.Status{}
}

func (hs *hostings) stop() {
	hs.want(nil)
}

// place is where a witness lies: the URL of a LUN, or the folder of a share.
type place struct{ url, share string }

// opener opens it, session for session.
func (m *member) opener(at place) func(context.Context) (witness.Place, error) {
	if at.share != "" {
		return m.n.share(at.share, m.id.ClusterID).Open
	}
	return func(ctx context.Context) (witness.Place, error) {
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		lun, err := m.n.san.Open(ctx, at.url, "witness")
		if err != nil {
			return nil, err
		}
		return witness.OnLUN(lun, m.id.ClusterID), nil
	}
}

// hosting is one witness: this node watches its place, and runs the voter while it
// is this node's turn.
type hosting struct {
	m     *member
	voter uint64
	at    place
	host  *witness.Host

	mu   sync.Mutex
	inst *consensus.Replica // while this node hosts
	keep bool               // see Core.SetKeep
}

func newHosting(m *member, voter uint64, at place) *hosting {
	h := &hosting{m: m, voter: voter, at: at}
	t := m.timings()
	h.host = witness.StartHost(witness.Options{
		ClusterID: m.id.ClusterID, Incarnation: m.incarnation, Voter: voter, Node: m.id.NodeID, Every: t.Short.WitnessBeat,
		Timing: challenge(t), Open: m.opener(at),
		Situation: h.situation, Start: h.start, Log: m.log.Named("witness"),
	})
	return h
}

// challenge is for how long a host of the witness must be silent.
func challenge(t cluster.Timings) quorum.Timing {
	return quorum.Timing{Window: t.Long.Challenge, MaxGap: t.Long.Challenge}
}

// setPace makes the host, and the voter while it is here, keep time by t.
func (h *hosting) setPace(t cluster.Timings) {
	h.host.SetPace(t.Short.WitnessBeat, challenge(t))
	if r := h.instance(); r != nil {
		r.SetTick(t.Short.Tick, t.Long.Tick)
	}
}

// instance is the voter, while it is here.
func (h *hosting) instance() *consensus.Replica {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inst
}

// setKeep tells the voter, and those that follow it here, whether it keeps
// leadership.
func (h *hosting) setKeep(on bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keep != on && (h.inst == nil || h.inst.SetKeep(on)) {
		h.keep = on
	}
}

// diskURL is where a node reaches a disk.
func diskURL(d *pb.Disk, node uint64) string {
	if u := d.GetNodeUrls()[node]; u != "" {
		return u
	}
	return d.GetUrl()
}

const (
	openTimeout = 5 * time.Second
	// formatTimeout bounds the test and the formatting of a new witness.
	formatTimeout = 60 * time.Second
)

func (h *hosting) situation() quorum.Situation {
	s := quorum.Situation{Self: h.m.id.NodeID, Wanted: true}
	st := h.m.raft.Status()
	switch {
	case st.IsLeader:
		s.Leader = h.m.id.NodeID
	case st.Leader != 0 && st.Leader < consensus.FirstWitness &&
		h.m.timings().Long.Follows(time.Now(), h.m.transport.Heard()[st.Leader]):
		s.Leader = st.Leader
	}
	return s
}

// start runs the witness's voter from the log on the LUN.
func (h *hosting) start(w witness.Hosted) (witness.Instance, error) {
	ctx, cancel := context.WithTimeout(h.m.ctx, openTimeout)
	defer cancel()
	log, state, err := consensus.OpenLog(ctx, w.Device, w.Journal)
	if voting := slices.Contains(h.m.raft.Status().Voters, h.voter); errors.Is(err, journal.ErrForeign) && !voting {
		// A new witness, or a LUN that was another voter's: it learns all from
		// the leader.
		log, state, err = consensus.CreateLog(ctx, w.Device, w.Journal, &raftpb.Snapshot{})
	}
	if err != nil {
		return nil, fmt.Errorf("the witness has a vote, but its log cannot be read; give the cluster a new witness with `clusterctl quorum set`: %w", err)
	}
	guard := guardTicks
	if w.Challenged {
		guard = 0
	}
	r, err := consensus.Start(consensus.Options{VoterConfig: consensus.VoterConfig{
		CoreConfig: consensus.CoreConfig{
			ID: h.voter, Log: log, State: state, Machine: newReplica(), Guard: guard, Witness: true, Host: h.m.id.NodeID,
			Confirm: w.Confirm, Logger: raftLogger{h.m.log.Named("raft-witness").Sugar()},
			Send: func(ms []*raftpb.Message) { h.m.transport.Send(ms, w.Generation) },
		},
		TickEvery: h.m.timings().Long.Tick, Generation: w.Generation,
	}})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.inst = r
	r.SetKeep(h.keep) // its loop is still empty
	h.mu.Unlock()
	h.m.transport.SetHosting(h.voter, w.Generation)
	go h.recordHosting(w.Generation)
	return &instance{Replica: r, h: h}, nil
}

// recordHosting tells the database, for operators. It does not matter if it
// fails.
func (h *hosting) recordHosting(generation uint64) {
	ctx, cancel := context.WithTimeout(h.m.ctx, 10*proposeTimeout)
	defer cancel()
	cmd := &pb.Command{Kind: &pb.Command_WitnessHosted{WitnessHosted: &pb.WitnessHosted{Node: h.m.id.NodeID, Generation: generation, Voter: h.voter}}}
	for ctx.Err() == nil {
		_, err := h.m.propose(ctx, cmd)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) {
			return
		}
	}
}

// instance is the voter, as the host sees it.
type instance struct {
	*consensus.Replica
	h *hosting
}

// Stop implements witness.Instance.
func (i *instance) Stop() {
	i.h.mu.Lock()
	if i.h.inst == i.Replica {
		i.h.inst = nil
		i.h.m.transport.SetHosting(i.h.voter, 0)
	}
	i.h.mu.Unlock()
	i.Replica.Stop()
}

// formatWitness makes a LUN the witness of this cluster.
func (m *member) formatWitness(ctx context.Context, d *pb.Disk, force bool) error {
	url := diskURL(d, m.id.NodeID)
	ctx, cancel := context.WithTimeout(ctx, formatTimeout)
	defer cancel()
	lun, err := m.n.san.Open(ctx, url, "format")
	if err != nil {
		return fmt.Errorf("open %s as witness: %w", url, err)
	}
	defer lun.Close()
	if got := lun.Info().ID; got != d.Id {
		return fmt.Errorf("%s is %s now, not %s: look at the SAN, then `clusterctl disk add` anew", url, got, d.Id)
	}
	was, foreign := witness.Free(ctx, lun, m.id.ClusterID)
	if foreign != nil && (!force || !errors.Is(foreign, witness.ErrForeign)) {
		return connect.NewError(connect.CodeFailedPrecondition, foreign)
	}
	if was {
		// Its last host may not have let it go yet, and what asks about it would
		// meet a conflict.
		if err := m.clearWitness(ctx, lun); err != nil {
			return err
		}
	}
	caps, err := lun.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask %s what it can do: %w", url, err)
	}
	if !caps.Reservations {
		return fmt.Errorf("%s has no persistent reservations, and cannot be a witness: choose a LUN of a SAN that has (SPC-4 5.13)", url)
	}
	if foreign != nil {
		if err := m.clearWitness(ctx, lun); err != nil {
			return err
		}
	}
	if err := m.testWitness(ctx, d); err != nil {
		return err
	}
	return witness.Format(ctx, lun, m.id.ClusterID, m.incarnation, force)
}

// clearWitness removes keys and head from a LUN that is to be the witness.
func (m *member) clearWitness(ctx context.Context, lun disk.LUN) error {
	if err := witness.Clear(ctx, lun, witness.Key(m.id.ClusterID, m.id.NodeID, 0)); err != nil {
		return fmt.Errorf("clear what lies on %s: %w", lun.Info().URL, err)
	}
	return nil
}

// testWitness refuses a LUN whose reservations do not hold between the nodes that
// are up. One node alone cannot find that out.
func (m *member) testWitness(ctx context.Context, d *pb.Disk) error {
	members, done, err := m.n.toValidate(ctx, nil)
	if err != nil {
		return err
	}
	defer done()
	var up []string
	m.db.view(func(s *pb.State) {
		for _, n := range s.Nodes {
			if n.State == pb.NodeState_NODE_STATE_UP {
				up = append(up, n.Name)
			}
		}
	})
	members = slices.DeleteFunc(members, func(v validate.Member) bool { return !slices.Contains(up, v.Name) })
	if len(members) < 2 {
		m.log.Warn("the witness's reservations are not tested: it takes two nodes", zap.String("disk", d.Name))
		return nil
	}
	if err := validate.Reservations(ctx, members, uuid.NewString(), d.Id); err != nil {
		return connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s cannot be the witness: %w; choose another, and look at it with `clusterctl validate`", d.Name, err))
	}
	return nil
}
