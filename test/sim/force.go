package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/consensus"
)

// forcedReplica is a database that is brought to what a log says, for `quorum force`.
type forcedReplica struct {
	db *cluster.Database
	// applied is the term of each entry that it was given, by its index.
	applied map[uint64]uint64
}

var _ consensus.Machine = forcedReplica{}

// Apply implements consensus.Machine.
func (r forcedReplica) Apply(index, term uint64, data []byte) (uint64, any, error) {
	r.applied[index] = term
	cmd := &pb.Command{}
	if err := proto.Unmarshal(data, cmd); err != nil {
		return 0, nil, err
	}
	res, err := r.db.Apply(cmd, term)
	return cmd.Id, res, err
}

// Snapshot implements consensus.Machine.
func (r forcedReplica) Snapshot() ([]byte, error) { return r.db.Snapshot() }

// Restore implements consensus.Machine.
func (r forcedReplica) Restore(data []byte) error { return r.db.Restore(data) }

var (
	errStands  = errors.New("the cluster has quorum: there is nothing to force")
	errNoCopy  = errors.New("this node has no copy of the database")
	errRunning = errors.New("clusterd does not run")
)

// force is `quorum force` at a node, as cluster/node has it: refused where there is
// quorum, or where one that answers knows more.
func (n *node) force() error {
	c := n.clusterd
	if c == nil || c.v == nil || c.p.still || n.tool != nil {
		return errRunning
	}
	c.p.spawn(func() {
		err := c.mayForce()
		n.w.tell("admin", "forces quorum at %s: %v", n.name, err)
		if err == nil {
			n.w.e.after(0, nil, func() { n.rewrite(c) })
		}
	})
	return nil
}

func (c *clusterd) mayForce() error {
	if c.db.State().Cluster == nil {
		return errNoCopy
	}
	if c.barrier() == nil {
		return errStands
	}
	own := c.v.v.Status().Applied
	for _, o := range c.w.nodes {
		d := o.clusterd
		if o == c.n || d == nil || d.v == nil || d.p.still || !c.w.reaches(c.n.id, o.id) || !c.w.reaches(o.id, c.n.id) {
			continue
		}
		if d.incarnation > c.incarnation || d.v.v.Status().Applied > own {
			return fmt.Errorf("%s answers and knows more than this node", o.name)
		}
	}
	return nil
}

// reaches tells whether some network carries messages from one node to another.
func (w *world) reaches(from, to uint64) bool {
	for _, t := range w.nets {
		if !t.cut[[2]uint64{from, to}] {
			return true
		}
	}
	return false
}

// run does f in a process of its own, which a loss of power ends; clusterd does not
// run meanwhile, and is started afterwards.
func (n *node) run(what string, f func(p *process) error) {
	n.killClusterd()
	p := n.process(what)
	n.tool = p
	p.spawn(func() {
		if err := f(p); err != nil {
			n.w.tell(n.name, "%s: %v", what, err)
			n.w.e.sleep(againAfter)
		}
		n.w.e.after(0, nil, func() {
			if n.tool == p {
				n.tool = nil
				n.startClusterd()
			}
		})
	})
}

// rewrite begins the log of a new incarnation with what a node knows.
func (n *node) rewrite(c *clusterd) {
	if n.clusterd != c {
		return
	}
	applied := c.v.v.Status().Applied
	n.run("force", func(*process) error {
		_, state, err := consensus.OpenLog(context.Background(), n.disk, n.logOptions())
		if err != nil {
			return err
		}
		r := forcedReplica{cluster.NewDatabase(), map[uint64]uint64{}}
		snap, err := consensus.Forced(state, r, n.id, func() { r.db.Force(n.id, n.wall()) })
		if err != nil {
			return err
		}
		if err := n.relog(snap); err != nil {
			return err
		}
		n.w.checks.force.forced(n, c.incarnation, applied, state, r)
		return nil
	})
}

// relog puts another log into the place of the node's: it is whole before.
func (n *node) relog(snap *raftpb.Snapshot) error {
	next := *n.disk
	next.s = newStore(n.w.e)
	if _, _, err := consensus.CreateLog(context.Background(), &next, n.logOptions(), snap); err != nil {
		return err
	}
	next.s.flush()
	n.disk.s = next.s
	return nil
}

// supersede gives a node's state up for that of a later incarnation, as cluster/node
// does: what it has stops, its promise is durable, and it begins with an empty log.
func (c *clusterd) supersede(incarnation uint64) {
	n := c.n
	if n.clusterd != c || n.tool != nil {
		return
	}
	c.w.tell(n.name, "quorum was forced without it: it gives its state up and follows incarnation %d", incarnation)
	if c.db.State().Cluster != nil {
		n.known = c.peers()
	}
	n.run("supersede", func(p *process) error {
		if err := (&clusterd{n: n, w: n.w, p: p}).keeper(attachTimeout, (*noded).release); err != nil {
			n.w.tell(n.name, "noded does not say that it has stopped: %v", err)
		}
		if n.disk.broken || n.disk.full {
			return errDisk
		}
		n.promised = max(n.promised, incarnation)
		n.w.done.Superseded++
		return nil
	})
}

// disaster takes a majority away: the power of most nodes fails, and nobody reaches the
// witness. Where the administrators force quorum on what is left, some of those that
// were lost are gone for good.
func (f *faults) disaster(x fault) (string, func()) {
	w := f.w
	if len(w.nodes) < 2 || f.struck {
		return "", nil
	}
	f.struck = true
	keep := 1
	if more := (len(w.nodes) - 1) / 2; more > 1 {
		keep += x.b % more
	}
	over, before := false, w.incarnation
	var left, lost []*node
	for i := range w.nodes {
		if o := w.nodes[(x.a+i)%len(w.nodes)]; i < keep {
			left = append(left, o)
		} else {
			lost = append(lost, o)
			w.e.after(w.e.between(0, 2*time.Second), nil, func() {
				if !over {
					o.powerOff()
				}
			})
		}
	}
	w.witness.down, w.server.down = true, true
	var force func()
	force = func() {
		if over || f.calmed || w.incarnation != before {
			return
		}
		_ = left[w.e.rand.IntN(len(left))].force()
		w.e.after(w.e.between(2*time.Second, 12*time.Second), nil, force)
	}
	w.e.after(w.e.between(3*time.Second, 15*time.Second), nil, force)
	w.e.after(x.long*time.Duration(x.b%100)/100, nil, func() { w.witness.down, w.server.down = false, false })
	return fmt.Sprintf("disaster: %d of %d nodes are left", len(left), len(w.nodes)), func() {
		over, f.struck = true, false
		w.witness.down, w.server.down = false, false
		for i, o := range lost {
			if w.incarnation != before && (x.b+i)%5 == 0 {
				w.gone(o)
				continue
			}
			w.e.after(w.e.between(0, 5*time.Second), nil, o.powerOn)
		}
	}
}

// gone takes a node away for good; an administrator evicts it when there is a cluster
// again.
func (w *world) gone(n *node) {
	w.tell("world", "%s is lost for good", n.name)
	w.removed(n.id)
	var evict func()
	evict = func() {
		for _, o := range w.nodes {
			c := o.clusterd
			if c == nil || c.v == nil || c.p.still || c.incarnation != w.incarnation {
				continue
			}
			if c.db.State().Nodes[n.id] == nil {
				return
			}
			c.p.spawn(func() {
				w.admin.tried(c, "evicts "+n.name, &pb.Command{Kind: &pb.Command_NodeLeave{NodeLeave: &pb.NodeLeave{Node: n.id}}})
			})
			break
		}
		w.e.after(8*time.Second, nil, evict)
	}
	w.e.after(8*time.Second, nil, evict)
}
