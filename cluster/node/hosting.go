package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"

	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
	"quorate/disk"
	"quorate/disk/journal"
	"quorate/quorum"
	"quorate/quorum/witness"
)

// hosting is this node's part in the witness: it watches the LUN, and runs the
// voter while it is this node's turn.
type hosting struct {
	m *member

	mu    sync.Mutex
	host  *witness.Host
	voter uint64 // whose witness the host watches
	url   string
	inst  *consensus.Replica // while this node hosts
	gen   uint64
}

func newHosting(m *member) *hosting { return &hosting{m: m} }

// run keeps the host as the database wants it.
func (h *hosting) run() {
	for {
		next := h.m.db.next()
		var voter uint64
		var url string
		h.m.db.view(func(s *pb.State) {
			if q := s.GetQuorum(); q.GetWitnessDisk() != "" {
				voter, url = q.WitnessVoter, diskURL(s.Disks[q.WitnessDisk], h.m.id.NodeID)
			}
		})
		h.want(voter, url)
		select {
		case <-h.m.ctx.Done():
			return
		case <-next:
		}
	}
}

// diskURL is where a node reaches a disk.
func diskURL(d *pb.Disk, node uint64) string {
	if u := d.GetNodeUrls()[node]; u != "" {
		return u
	}
	return d.GetUrl()
}

func (h *hosting) want(voter uint64, url string) {
	h.mu.Lock()
	if h.voter == voter && h.url == url {
		h.mu.Unlock()
		return
	}
	old := h.host
	h.host, h.voter, h.url = nil, voter, url
	h.mu.Unlock()
	if old != nil {
		old.Stop()
	}
	if voter == 0 || h.m.ctx.Err() != nil {
		return
	}
	p := h.m.profile
	host := witness.StartHost(witness.Options{
		ClusterID: h.m.id.ClusterID, Voter: voter, Node: h.m.id.NodeID, Every: p.WitnessBeat,
		Timing: quorum.Timing{Window: p.Challenge, MaxGap: p.Challenge},
		Open: func(ctx context.Context) (disk.LUN, error) {
			ctx, cancel := context.WithTimeout(ctx, openTimeout)
			defer cancel()
			return h.m.n.san.Open(ctx, url, "witness")
		},
		Situation: h.situation, Start: h.start, Log: h.m.log.Named("witness"),
	})
	h.mu.Lock()
	h.host = host
	h.mu.Unlock()
}

const openTimeout = 5 * time.Second

func (h *hosting) situation() quorum.Situation {
	s := quorum.Situation{Self: h.m.id.NodeID, Wanted: true}
	st := h.m.raft.Status()
	switch {
	case st.IsLeader:
		s.Leader = h.m.id.NodeID
	case st.Leader != 0 && st.Leader < consensus.FirstWitness &&
		h.m.profile.Follows(time.Now(), h.m.transport.Heard()[st.Leader]):
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
		TickEvery: h.m.profile.Tick, Generation: w.Generation,
	}})
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	h.inst, h.gen = r, w.Generation
	h.mu.Unlock()
	h.m.transport.SetHosting(w.Generation)
	go h.recordHosting(w.Generation)
	return &instance{Replica: r, h: h}, nil
}

// recordHosting tells the database, for operators. It does not matter if it
// fails.
func (h *hosting) recordHosting(generation uint64) {
	ctx, cancel := context.WithTimeout(h.m.ctx, 10*proposeTimeout)
	defer cancel()
	cmd := &pb.Command{Kind: &pb.Command_WitnessHosted{WitnessHosted: &pb.WitnessHosted{Node: h.m.id.NodeID, Generation: generation}}}
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
		i.h.inst, i.h.gen = nil, 0
		i.h.m.transport.SetHosting(0)
	}
	i.h.mu.Unlock()
	i.Replica.Stop()
}

// deliver gives the voter a message, if it is here.
func (h *hosting) deliver(msg *raftpb.Message, generation uint64) {
	h.mu.Lock()
	r := h.inst
	if h.voter != msg.GetTo() {
		r = nil
	}
	h.mu.Unlock()
	if r != nil {
		r.Step(msg, generation)
	}
}

// hosts tells whether the voter is here.
func (h *hosting) hosts() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.inst != nil
}

// status is for operators.
func (h *hosting) status() (witness.Status, bool) {
	h.mu.Lock()
	host := h.host
	h.mu.Unlock()
	if host == nil {
		return witness.Status{}, false
	}
	return host.Status(), true
}

func (h *hosting) stop() {
	h.mu.Lock()
	host := h.host
	h.host = nil
	h.mu.Unlock()
	if host != nil {
		host.Stop()
	}
}

// formatWitness makes a LUN the witness of this cluster.
func (m *member) formatWitness(ctx context.Context, d *pb.Disk, force bool) error {
	url := diskURL(d, m.id.NodeID)
	ctx, cancel := context.WithTimeout(ctx, 2*openTimeout)
	defer cancel()
	lun, err := m.n.san.Open(ctx, url, "format")
	if err != nil {
		return fmt.Errorf("open %s as witness: %w", url, err)
	}
	defer lun.Close()
	if got := lun.Info().ID; got != d.Id {
		return fmt.Errorf("%s is %s now, not %s: look at the SAN, then `clusterctl disk add` anew", url, got, d.Id)
	}
	caps, err := lun.Capabilities(ctx)
	if err != nil {
		return fmt.Errorf("ask %s what it can do: %w", url, err)
	}
	if !caps.Reservations {
		return fmt.Errorf("%s has no persistent reservations, and cannot be a witness: choose a LUN of a SAN that has (SPC-4 5.13)", url)
	}
	h, ok := m.hosting.status()
	if ok && h.State == "hosting" {
		m.log.Info("the witness is replaced", zap.String("by", url))
	}
	return witness.Format(ctx, lun, m.id.ClusterID, force)
}
