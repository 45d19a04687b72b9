package validate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"quorate/cluster/api/apipb"
	"quorate/quorum"
)

// lun is a LUN as the nodes together see it.
type lun struct {
	id   string
	seen []*node
	one  *apipb.Lun // as the first node sees it
	// unfit says why the cluster cannot use it, or is empty.
	unfit string
}

func (l *lun) name() string {
	out := l.one.Product
	if l.one.Serial != "" {
		out += " (serial " + l.one.Serial + ")"
	}
	if out = strings.TrimSpace(out); out == "" {
		out = l.id
	}
	return fmt.Sprintf("%s, %s", out, size(l.one.Size))
}

func size(n int64) string {
	if n >= 10<<30 {
		return fmt.Sprintf("%d GiB", n>>30)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

func (r *run) storage(ctx context.Context) {
	r.begin("listing the LUNs that each node sees")
	faults := r.listLUNs(ctx)
	for _, n := range r.nodes {
		c := &apipb.Check{
			Category: Storage, Name: "SAN answers", Subject: n.Name,
			Advice: "See that the node's storage network reaches the portal, and that the SAN allows its initiator name and CHAP secret.",
		}
		c.Result, c.Text = grade(Failed, faults[n], fmt.Sprintf("%d LUNs are seen", len(n.luns)))
		r.add(c)
	}
	luns := r.gather()
	if len(luns) == 0 {
		r.add(&apipb.Check{
			Category: Storage, Name: "Shared storage", Subject: r.names(), Result: Warning, Text: "no node sees a LUN",
			Advice: "Name the SAN with --portal, or log in to it on every node with `clusterctl san login`.",
		})
		return
	}
	for _, l := range luns {
		r.checkSame(l)
		r.testLUN(ctx, l)
	}
	r.checkRoles(luns)
}

// listLUNs fills in each node's LUNs, and returns what could not be listed.
func (r *run) listLUNs(ctx context.Context) map[*node][]string {
	var mu sync.Mutex
	faults := map[*node][]string{}
	r.each(func(n *node) {
		fault := func(what string, err string) {
			mu.Lock()
			defer mu.Unlock()
			faults[n] = append(faults[n], what+": "+err)
		}
		take := func(what string, targets []*apipb.SanTarget, err error) {
			if err != nil {
				fault(what, oneLine(err))
			}
			for _, t := range targets {
				if t.Error != "" {
					fault("target "+t.Iqn, t.Error)
				}
				for _, l := range t.Luns {
					if id := identity(l); n.luns[id] == nil {
						n.luns[id] = l
					}
				}
			}
		}
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		kept, err := n.Node.SanList(ctx)
		take("its targets", kept, err)
		for _, p := range r.opt.Portals {
			found, err := n.Node.SanDiscover(ctx, p)
			take("portal "+p, found, err)
		}
	})
	return faults
}

// identity is what the same LUN has on every node.
func identity(l *apipb.Lun) string {
	switch {
	case l.Id != "":
		return l.Id
	case l.Serial != "":
		return l.Vendor + "/" + l.Product + "/" + l.Serial
	}
	return l.Url
}

// gather joins the nodes' views, in the order of identity.
func (r *run) gather() []*lun {
	by := map[string]*lun{}
	for _, n := range r.nodes {
		for id, l := range n.luns {
			if by[id] == nil {
				by[id] = &lun{id: id, one: l}
			}
			by[id].seen = append(by[id].seen, n)
			if by[id].one.Holds == "" {
				by[id].one = l
			}
		}
	}
	var out []*lun
	for _, l := range by {
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b *lun) int { return strings.Compare(a.id, b.id) })
	return out
}

// checkSame wants a LUN to be seen by every node, and to be the same there.
func (r *run) checkSame(l *lun) {
	c := &apipb.Check{
		Category: Storage, Name: "Same LUNs", Subject: l.name(),
		Advice: "Show the LUN to every node's initiator name on the SAN, and log in to its target on every node.",
	}
	var faults []string
	for _, n := range r.nodes {
		switch have := n.luns[l.id]; {
		case have == nil:
			faults = append(faults, n.Name+" does not see it")
		case have.Size != l.one.Size || have.BlockSize != l.one.BlockSize:
			faults = append(faults, fmt.Sprintf("%s sees %d bytes in blocks of %d, others %d in blocks of %d",
				n.Name, have.Size, have.BlockSize, l.one.Size, l.one.BlockSize))
		}
	}
	c.Result, c.Text = grade(Failed, faults, fmt.Sprintf("every node sees it, %s", l.id))
	if c.Result == Passed && l.one.Id == "" {
		c.Result, c.Text = Warning, "the LUN has no identity (VPD page 0x83), so that nodes cannot be sure that it is the same"
		c.Advice, l.unfit = "Give the LUN an identity on the SAN.", "it has no identity"
	}
	if len(faults) > 0 {
		l.unfit = strings.Join(faults, "; ")
	}
	r.add(c)
}

// checkRoles looks for a witness and a LUN for machines among what is fit.
func (r *run) checkRoles(luns []*lun) {
	if slices.ContainsFunc(r.nodes, func(n *node) bool { return n.desc.Joined }) {
		for _, name := range []string{"Witness", "Volume"} {
			r.add(&apipb.Check{
				Category: Storage, Name: name, Subject: r.names(), Result: Skipped,
				Text: "the cluster has been created and has chosen; see `clusterctl quorum show` and `clusterctl csv list`",
			})
		}
		return
	}
	var candidates []quorum.Candidate
	for _, l := range luns {
		candidates = append(candidates, quorum.Candidate{ID: l.id, Name: l.name(), Size: l.one.Size, SeenBy: len(l.seen), Unsuitable: l.unfit})
	}
	c := &apipb.Check{
		Category: Storage, Name: "Witness", Subject: r.names(),
		Advice: fmt.Sprintf("Make a LUN of at least %s, empty and seen by every node: an even number of nodes needs it to survive a loss.", size(quorum.MinWitnessSize)),
	}
	best, err := quorum.PickWitness(len(r.nodes), candidates)
	chosen := ""
	switch {
	case best != nil:
		chosen = best.ID
		c.Result, c.Subject, c.Text = Passed, best.Name, "it is the smallest LUN that can be the witness"
	case err != nil:
		c.Result, c.Text = Warning, "no LUN can be the witness: "+oneLine(err)
	default:
		c.Result, c.Text = Warning, "there is no LUN to be the witness"
	}
	r.add(c)
	r.checkVolume(luns, chosen)
}

// minVolume is the smallest LUN that is worth keeping machines on, in bytes.
const minVolume = 1 << 30

func (r *run) checkVolume(luns []*lun, witness string) {
	c := &apipb.Check{
		Category: Storage, Name: "Volume", Subject: r.names(), Result: Warning, Text: "no LUN beside the witness can be a shared volume for machines",
		Advice: "Make a LUN for machines, empty and seen by every node, of at least " + size(minVolume) + ".",
	}
	var best *lun
	for _, l := range luns {
		if l.unfit == "" && l.id != witness && len(l.seen) == len(r.nodes) && l.one.Size >= minVolume && (best == nil || l.one.Size > best.one.Size) {
			best = l
		}
	}
	if best != nil {
		c.Result, c.Subject, c.Text = Passed, best.name(), "it is the largest LUN that can be a shared volume"
	}
	r.add(c)
}
