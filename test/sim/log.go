package sim

import (
	"hash/fnv"

	pb "quorate/cluster/clusterpb"
)

// logCheck: what was committed is never lost or changed, and replicas agree.
type logCheck struct {
	w       *world
	entries map[uint64]logEntry // by index: as the first that applied it had it
	states  map[uint64]logState
}

type logEntry struct {
	term, command, result uint64
	by                    string
}

type logState struct {
	hash uint64
	by   string
}

// compareEvery is at which indices whole databases are compared.
const compareEvery = 64

// applied is called when a replica has applied an entry.
func (c *logCheck) applied(r *replica, index, term, command uint64, cmd *pb.Command, res *pb.Result) {
	r.term = term
	h := fnv.New64a()
	_, _ = h.Write([]byte(res.Message))
	e := logEntry{term: term, command: command, result: h.Sum64() + uint64(res.Code), by: r.by}
	have, ok := c.entries[c.w.at(r.incarnation, index)]
	if !ok {
		c.entries[c.w.at(r.incarnation, index)] = e
		c.w.done.Commits++
		c.w.e.mix(command)
		c.w.checks.acknowledged.applied(r.incarnation, index, cmd)
		c.w.checks.epochs.applied(r.db.State(), cmd)
		if res.Code == pb.Code_CODE_OK {
			c.w.checks.save.applied(r.incarnation, r.db.State(), cmd)
			c.w.checks.drain.applied(r.incarnation, r.db.State(), cmd)
			c.w.checks.policy.applied(r.incarnation, r.db.State(), cmd)
		}
		if kind := cmd.GetNodeRemove(); kind != nil && r.incarnation == c.w.incarnation && res.Code == pb.Code_CODE_OK {
			c.w.removed(kind.Node)
		}
		if kind := cmd.GetFenceProof(); kind != nil && res.Code == pb.Code_CODE_OK {
			c.w.checks.volume.fenced(r.db.State(), kind.Node)
			c.w.checks.lease.proved(r.incarnation, kind)
		}
		if kind := cmd.GetNodeDown(); kind != nil && res.Code == pb.Code_CODE_OK && !kind.SaidStopped {
			c.w.done.NodesDown++
		}
		c.w.checks.format.applied(r.db.State())
		c.story(r)
	} else if have.term != e.term || have.command != e.command {
		c.w.fail("log", "entry %d is of term %d on %s, and was another of term %d on %s: what was committed has changed", index, term, r.by, have.term, have.by)
	} else if have.result != e.result {
		c.w.fail("log", "entry %d had another result on %s than on %s: %s", index, r.by, have.by, res)
	}
	every := uint64(compareEvery)
	if len(c.w.groups) > 100 {
		every *= 16
	}
	if index%every == 0 {
		c.compare(r, index)
	}
}

func (c *logCheck) compare(r *replica, index uint64) {
	data, err := r.db.Snapshot()
	if err != nil {
		c.w.fail("log", "%v", err)
	}
	if err := r.db.Holdings().Check(r.db.State()); err != nil {
		c.w.fail("log", "at entry %d on %s: %v", index, r.by, err)
	}
	h := fnv.New64a()
	_, _ = h.Write(data)
	s := logState{hash: h.Sum64(), by: r.by}
	if have, ok := c.states[c.w.at(r.incarnation, index)]; ok && have.hash != s.hash {
		c.w.fail("log", "at entry %d the databases of %s and %s differ", index, r.by, have.by)
	}
	c.states[c.w.at(r.incarnation, index)] = s
}

// story tells what the database says of itself: its newest event.
func (c *logCheck) story(r *replica) {
	if !c.w.opt.Story {
		return
	}
	ev := r.db.State().Events
	if len(ev) == 0 || ev[len(ev)-1].Id <= c.w.checks.liveness.told {
		return
	}
	for _, e := range ev {
		if e.Id > c.w.checks.liveness.told {
			c.w.tell("cluster", "%s", e.Text)
		}
	}
	c.w.checks.liveness.told = ev[len(ev)-1].Id
}
