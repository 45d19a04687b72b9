package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/disk/journal"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// hosting is a node's part in one witness: it watches its LUN, and runs the voter
// while it is this node's turn.
type hosting struct {
	c     *clusterd
	voter uint64
	at    place
	ctx   *simContext
	inst  *voter // while the witness is here
	wake  *signal
	keep  bool
}

// place is where a witness lies: on a LUN, or in a folder of the share.
type place struct {
	l      *lun
	folder string
}

// host keeps the hosts of witnesses as the database wants them.
func (c *clusterd) host() {
	q := c.db.State().GetQuorum()
	want := map[uint64]place{}
	if cluster.HasWitness(q) {
		want[q.WitnessVoter] = place{c.w.luns[q.WitnessDisk], q.WitnessShare}
	}
	if q.GetFormerVoter() != 0 {
		want[q.FormerVoter] = place{c.w.luns[q.FormerDisk], q.FormerShare}
	}
	for _, id := range sorted(c.hostings) {
		if h := c.hostings[id]; want[id] != h.at {
			h.ctx.cancel(context.Canceled)
			delete(c.hostings, id)
		}
	}
	for _, id := range sorted(want) {
		if c.hostings[id] == nil {
			c.hostings[id] = &hosting{c: c, voter: id, at: want[id], ctx: newContext(context.Background())}
			c.p.spawn(c.hostings[id].run)
		}
		h, keep := c.hostings[id], q.GetMode() == pb.QuorumMode_QUORUM_MODE_DISK_ONLY
		if h.keep != keep {
			h.keep = keep
			if v := h.inst; v != nil {
				v.do(func() { v.v.SetKeep(keep) })
			}
		}
	}
}

// rehost tells the node's voter whether a witness that votes lives here.
func (c *clusterd) rehost() {
	voters, here := c.v.v.Status().Voters, false
	for id, h := range c.hostings {
		here = here || h.inst != nil && slices.Contains(voters, id)
	}
	if here != c.here {
		c.here = here
		c.v.do(func() { c.v.v.SetHosting(here) })
	}
}

func (h *hosting) run() {
	c := h.c
	witness.NewHost(witness.Options{
		ClusterID: c.w.id, Incarnation: c.incarnation, Voter: h.voter, Node: c.n.id, Every: c.w.profile.WitnessBeat,
		Timing: quorum.Timing{Window: c.w.profile.Challenge, MaxGap: c.w.profile.Challenge}, Log: c.n.words(), Clock: h,
		Open: func(ctx context.Context) (witness.Place, error) {
			if h.at.folder != "" {
				return c.n.share(c.p, h.at.folder).Open(ctx)
			}
			lun, err := h.at.l.open(c.n, c.p, "witness")
			if err != nil {
				return nil, err
			}
			return witness.OnLUN(lun, c.w.id), nil
		},
		Situation: c.situation, Start: h.start,
	}).Run(h.ctx)
}

func (c *clusterd) situation() quorum.Situation {
	s := quorum.Situation{Self: c.n.id, Wanted: true}
	st := c.v.v.Status()
	switch {
	case st.IsLeader:
		s.Leader = c.n.id
	case st.Leader != 0 && st.Leader < consensus.FirstWitness && c.w.profile.Follows(c.n.now(), c.routes.Last(st.Leader)):
		s.Leader = st.Leader
	}
	return s
}

// start runs the witness's voter from the log on the LUN.
func (h *hosting) start(w witness.Hosted) (witness.Instance, error) {
	c := h.c
	c.w.checks.quorum.hosts(c, h.at, h.voter)
	ctx, cancel := c.p.withTimeout(context.Background(), openTimeout)
	defer cancel()
	log, state, err := consensus.OpenLog(ctx, w.Device, w.Journal)
	if voting := slices.Contains(c.v.v.Status().Voters, h.voter); errors.Is(err, journal.ErrForeign) && !voting {
		log, state, err = consensus.CreateLog(ctx, w.Device, w.Journal, &raftpb.Snapshot{})
	}
	if err != nil {
		return nil, err
	}
	guard := guardTicks
	if w.Challenged {
		guard = 0
	}
	db := &replica{w: c.w, incarnation: c.incarnation, by: fmt.Sprintf("witness on %s", c.n.name), db: cluster.NewDatabase()}
	v, err := c.startVoter(consensus.VoterConfig{Generation: w.Generation, CoreConfig: consensus.CoreConfig{
		ID: h.voter, Log: log, State: state, Guard: guard, Witness: true, Host: c.n.id, Confirm: w.Confirm,
	}}, db, c.observe)
	if err != nil {
		return nil, err
	}
	c.w.done.Takeovers++
	if h.at.folder != "" {
		c.w.done.OnShare++
	}
	c.w.moment(afterTakeover, c.n, 3*time.Second)
	c.w.tell(c.n.name, "hosts the witness, generation %d", w.Generation)
	h.inst = v
	v.unhost = func() { h.unhost(v) }
	keep := h.keep
	v.do(func() { v.v.SetKeep(keep) })
	c.routes.SetHosting(h.voter, w.Generation)
	c.rehost()
	v.onEnd = append(v.onEnd, func() {
		if h.wake != nil {
			h.wake.fire()
		}
	})
	c.p.spawn(func() {
		cmd := &pb.Command{Kind: &pb.Command_WitnessHosted{WitnessHosted: &pb.WitnessHosted{Node: c.n.id, Generation: w.Generation, Voter: h.voter}}}
		for end := c.w.e.now + 10*proposeTimeout; c.w.e.now < end; {
			if _, err := c.propose(cmd); !errors.Is(err, errUnknown) {
				return
			}
		}
	})
	return v, nil
}

func (h *hosting) unhost(v *voter) {
	if h.inst != v {
		return
	}
	h.inst = nil
	h.c.routes.SetHosting(h.voter, 0)
	h.c.rehost()
	h.c.w.tell(h.c.n.name, "hosts the witness no more: %v", v.err)
}

var _ witness.Clock = (*hosting)(nil)

// Now implements witness.Clock.
func (h *hosting) Now() time.Time { return h.c.n.now() }

// Sleep implements witness.Clock. The one thing that wakes it is the end of the
// voter.
func (h *hosting) Sleep(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	s := h.c.w.e.signal()
	c := contextOf(ctx)
	if c.err != nil {
		return
	}
	hook := c.onEnd(s.fire)
	defer hook.remove()
	if wake != nil {
		select {
		case <-wake:
			return
		default:
		}
		h.wake = s
	}
	h.c.w.e.after(h.c.n.real(d), h.c.p, s.fire)
	s.wait()
}

// WithTimeout implements witness.Clock.
func (h *hosting) WithTimeout(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return h.c.p.withTimeout(ctx, h.c.n.real(d))
}

// NewLock implements witness.Clock.
func (h *hosting) NewLock() sync.Locker { return &lock{e: h.c.w.e} }
