package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/quorum"
)

// furnish gives a new cluster its disks and its quorum.
func (m *member) furnish(ctx context.Context, r *apipb.CreateRequest, tell teller) error {
	if len(r.Portals) > 0 {
		added, skipped, err := m.addDisks(ctx, "")
		if err != nil {
			return err
		}
		tell.say("disks", "%d disks that every node sees", len(added))
		for _, s := range skipped {
			tell.warn("disks", "%s", s)
		}
	}
	mode, disk, why := r.Quorum, r.Witness, "asked for by the administrator"
	switch {
	case mode == "" && r.Share != "":
		mode = string(quorum.NodeAndShareMajority)
	case mode == "":
		var c quorum.Choice
		m.db.view(func(s *pb.State) { c = quorum.Choose(len(s.Nodes), witnessCandidates(s)) })
		mode, why = string(c.Mode), c.Why
		if disk == "" {
			disk = c.Witness
		}
	}
	tell.say("quorum", "%s: %s", mode, why)
	return m.setQuorum(ctx, witnessWish{mode: mode, disk: disk, share: r.Share, force: r.Force}, why)
}

// witnessCandidates are the disks that might be the witness.
func witnessCandidates(s *pb.State) []quorum.Candidate {
	var out []quorum.Candidate
	for _, d := range s.Disks {
		c := quorum.Candidate{ID: d.Id, Name: d.Name, Size: d.Size, SeenBy: len(d.NodeUrls)}
		if d.Role == pb.DiskRole_DISK_ROLE_VOLUME {
			c.Unsuitable = "it holds a volume"
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b quorum.Candidate) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// diskNamed finds a disk by its name, identity, serial or URL.
func diskNamed(s *pb.State, name string) (*pb.Disk, error) {
	for _, d := range s.Disks {
		if d.Id == name || strings.EqualFold(d.Name, name) || d.Serial == name || d.Url == name {
			return d, nil
		}
	}
	return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no disk %q in the cluster: see `clusterctl disk list`, and `clusterctl disk add`", name))
}

// addDisks takes LUNs that every node sees into the cluster: one, or all.
func (m *member) addDisks(ctx context.Context, which string) (added []*pb.Disk, skipped []string, err error) {
	var nodes []uint64
	m.db.view(func(s *pb.State) {
		for id := range s.Nodes {
			nodes = append(nodes, id)
		}
	})
	slices.Sort(nodes)
	found := map[string]*pb.Disk{}
	holds := map[string]string{}
	for _, id := range nodes {
		luns, err := m.lunsOf(ctx, id)
		if err != nil {
			return nil, nil, fmt.Errorf("ask node %d for its LUNs: %w", id, err)
		}
		for _, l := range luns {
			key := l.Id
			if key == "" {
				skipped = append(skipped, fmt.Sprintf("%s has no identity (VPD page 0x83) and cannot be used", l.Url))
				continue
			}
			if found[key] == nil {
				found[key] = &pb.Disk{Id: key, Serial: l.Serial, Size: l.Size, Url: l.Url, Product: strings.TrimSpace(l.Vendor + " " + l.Product), NodeUrls: map[uint64]string{}}
			}
			found[key].NodeUrls[id] = l.Url
			holds[key] = l.Holds
		}
	}
	ids := make([]string, 0, len(found))
	for id := range found {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int { return strings.Compare(found[a].Url, found[b].Url) })
	for _, id := range ids {
		d := found[id]
		if which != "" && which != id && which != d.Url && which != d.Serial {
			continue
		}
		if len(d.NodeUrls) < len(nodes) {
			skipped = append(skipped, fmt.Sprintf("%s is seen by %d of %d nodes", d.Url, len(d.NodeUrls), len(nodes)))
			continue
		}
		if holds[id] != "" {
			skipped = append(skipped, fmt.Sprintf("%s was added, but holds %s: using it needs --force", d.Url, holds[id]))
		}
		if _, err := m.propose(ctx, &pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: d}}}); err != nil {
			return added, skipped, err
		}
		added = append(added, d)
	}
	if which != "" && len(added) == 0 {
		return nil, skipped, connect.NewError(connect.CodeNotFound, fmt.Errorf("no LUN %q that every node sees: log in to its portal on every node with `clusterctl san login`", which))
	}
	return added, skipped, nil
}

// lunsOf asks a node, which may be this one, for the LUNs that it sees.
func (m *member) lunsOf(ctx context.Context, id uint64) ([]*apipb.Lun, error) {
	var targets []*apipb.SanTarget
	if id == m.id.NodeID {
		list, err := m.n.san.List(ctx)
		if err != nil {
			return nil, err
		}
		targets = targetsOf(list)
	} else {
		r, done, err := m.remoteTo(id)
		if err != nil {
			return nil, err
		}
		defer done()
		res, err := r.SanList(ctx, connect.NewRequest(&apipb.SanListRequest{}))
		if err != nil {
			return nil, err
		}
		targets = res.Msg.Targets
	}
	var out []*apipb.Lun
	var errs []error
	for _, t := range targets {
		if t.Error != "" {
			errs = append(errs, fmt.Errorf("target %s: %s", t.Iqn, t.Error))
		}
		out = append(out, t.Luns...)
	}
	if len(out) == 0 {
		return nil, errors.Join(errs...)
	}
	return out, nil
}

// witnessWish is what an administrator wants of the quorum.
type witnessWish struct {
	mode  string
	disk  string // the witness's, or empty: the present one, or the best
	share string // a directory
	force bool
}

// setQuorum changes the mode, and waits until the votes are as it wants them.
func (m *member) setQuorum(ctx context.Context, w witnessWish, why string) error {
	qm, err := quorum.ParseMode(w.mode)
	if err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	cmd := &pb.QuorumSet{Why: why}
	for i := range pb.QuorumMode_name {
		if cluster.ModeOf(pb.QuorumMode(i)) == w.mode {
			cmd.Mode = pb.QuorumMode(i)
		}
	}
	end := func(bool) {}
	switch {
	case qm.OnDisk():
		end, err = m.prepareWitness(ctx, w, cmd)
	case qm.OnShare():
		end, err = m.prepareShare(ctx, w.share, cmd)
	}
	if err != nil {
		return err
	}
	_, err = m.propose(ctx, &pb.Command{Kind: &pb.Command_QuorumSet{QuorumSet: cmd}})
	end(!refused(err))
	if err != nil {
		return err
	}
	return m.waitVotes(ctx)
}

// prepareWitness claims and formats the disk that is to be the witness, unless it is
// that already, and puts it into the command. end is that of the claim.
func (m *member) prepareWitness(ctx context.Context, w witnessWish, cmd *pb.QuorumSet) (end func(used bool), err error) {
	d, present, err := m.witnessDisk(w.disk)
	if err != nil {
		return nil, err
	}
	cmd.WitnessDisk = d.Id
	if d.Id == present {
		return func(bool) {}, nil
	}
	// Before anything is written: what is in use is no witness, forced or not.
	if d.Role != pb.DiskRole_DISK_ROLE_AVAILABLE {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s is in use already, as %s: choose a disk that is available", d.Name, cluster.RoleOf(d.Role)))
	}
	if d.Size < quorum.MinWitnessSize {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("%s has %d MiB, a witness needs %d MiB", d.Name, d.Size>>20, quorum.MinWitnessSize>>20))
	}
	if cmd.Claim, end, err = m.claim(ctx, d, "witness"); err != nil {
		return nil, err
	}
	if err := m.formatWitness(ctx, d, w.force); err != nil {
		end(false)
		return nil, err
	}
	return end, nil
}

// witnessDisk finds the disk that is named, else the present witness, else the best;
// present is the identity of the witness that there is.
func (m *member) witnessDisk(name string) (d *pb.Disk, present string, err error) {
	m.db.view(func(s *pb.State) {
		present = s.Quorum.WitnessDisk
		if name == "" && present != "" {
			name = present
		}
		if name != "" {
			d, err = diskNamed(s, name)
			return
		}
		best, rejected := quorum.PickWitness(len(s.Nodes), witnessCandidates(s))
		if best == nil {
			err = connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("no disk is suitable as witness: %w", errors.Join(rejected, errors.New("add one with `clusterctl disk add`"))))
			return
		}
		d = s.Disks[best.ID]
	})
	return d, present, err
}

// waitVotes waits until raft's voters are those that the mode wants. It asks any
// node: what it sees is its own replica.
func (m *member) waitVotes(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	for {
		changed := m.raft.Changed()
		standing := m.standing()
		var e quorum.Electorate
		var voter uint64
		m.db.view(func(s *pb.State) {
			voter = s.Quorum.WitnessVoter
			e = cluster.ElectorateOf(s, standing.Now, func(id uint64) bool { return id == voter || standing.Here[id] })
		})
		e.Leader = m.leaderNode()
		have := slices.Sorted(slices.Values(standing.Now.Voters))
		if len(standing.Now.Outgoing) == 0 && slices.Equal(have, quorum.Assign(e).Voters) {
			return nil
		}
		select {
		case <-ctx.Done():
			h := m.hosting.status(voter)
			return fmt.Errorf("the mode is set, but the votes are not yet as it wants them (the witness is %s here: %s): see `clusterctl quorum show`: %w", h.State, h.Reason, ctx.Err())
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// nodeNamed finds a node by its name.
func (m *member) nodeNamed(name string) (uint64, error) {
	var found uint64
	m.db.view(func(s *pb.State) {
		for id, n := range s.Nodes {
			if n.Name == name {
				found = id
			}
		}
	})
	if found == 0 {
		return 0, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no node %q: see `clusterctl node list`", name))
	}
	return found, nil
}
