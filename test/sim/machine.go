package sim

import "slices"

// machineCheck: at most one process of a machine runs, and none but that writes to
// the machine's disk, whatever the database says.
//
// Nor does one go on from memory that is older than the disk: once another process
// of the machine has run, only what took its memory over may.
type machineCheck struct {
	w       *world
	current map[inGroup]*machine // the process that ran last
	stints  map[inGroup]uint64   // how often some process began to run
	// waking are processes that run as soon as their noded does.
	waking []*machine
	// unborn are processes that were ended as they woke, with the stints there were by
	// then. What such a one wrote may land yet.
	unborn map[uint64]uint64
}

// inGroup is a machine in one incarnation of the cluster.
type inGroup struct {
	in    uint64
	group string
}

func (m *machine) key() inGroup { return inGroup{m.in, m.group} }

// elsewhere finds a process of the machine that runs in another incarnation, and may not.
func (c *machineCheck) elsewhere(m *machine) *machine {
	for k, o := range c.current {
		if k.group == m.group && k.in != m.in && o.executes() && m.executes() && !c.w.twoClusters(o.n, o.in, m.n, m.in) {
			return o
		}
	}
	return nil
}

// runs is called when a process begins to run, or goes on.
func (c *machineCheck) runs(m *machine) {
	if d := m.n.noded; d != nil && !d.p.awake() {
		if !slices.Contains(c.waking, m) {
			c.waking = append(c.waking, m)
		}
		c.w.e.after(wakeWithin, nil, func() {
			if c.awaited(m) {
				c.runs(m)
			}
		})
		return
	}
	c.begins(m)
}

func (c *machineCheck) begins(m *machine) {
	old := c.current[m.key()]
	if old == nil || old == m || !old.executes() || !m.executes() {
		old = c.elsewhere(m)
	}
	if old != nil {
		c.w.fail("machine", "%s runs on %s, process %d, and on %s, process %d", m.group, m.n.name, m.pid, old.n.name, old.pid)
	}
	if fresh := !m.incoming && m.stint == 0; !fresh && m.stint != c.stints[m.key()] {
		c.w.fail("machine", "%s goes on as process %d on %s with what it knew before another ran, process %d on %s", m.group, m.pid, m.n.name, c.current[m.key()].pid, c.current[m.key()].n.name)
	}
	c.stints[m.key()]++
	m.stint = c.stints[m.key()]
	c.current[m.key()] = m
}

// executes tells whether a process's processors run. On a node that stands still
// they do not; nor can one do harm whose noded stands still or is away, for its disk
// is too.
func (m *machine) executes() bool {
	return m.running && !m.p.still && m.n.powered && m.n.noded != nil && m.n.noded.p.awake()
}

// awaited takes a process off those that are waking. It tells whether it still runs.
func (c *machineCheck) awaited(m *machine) bool {
	i := slices.Index(c.waking, m)
	if i < 0 {
		return false
	}
	c.waking = slices.Delete(c.waking, i, i+1)
	return m.running && !m.p.dead
}

// ends is called when a process that runs is ended.
func (c *machineCheck) ends(m *machine) {
	if c.awaited(m) {
		c.unborn[m.pid] = c.stints[m.key()]
	}
}

func (c *machineCheck) landed(x *nexus, s stamp) {
	// What passed the gate shows that the noded has begun to wake.
	if i := slices.IndexFunc(c.waking, func(m *machine) bool { return m.pid == s.epoch }); i >= 0 {
		if m := c.waking[i]; c.awaited(m) {
			c.begins(m)
		}
	}
	var now *machine
	for k, m := range c.current { // it may be the one of an incarnation of before
		if k.group == groupName(int(s.group)) && (now == nil || m.pid == s.epoch || now.pid != s.epoch && k.in > now.in) {
			now = m
		}
	}
	if had, ok := c.unborn[s.epoch]; ok && now != nil && had == c.stints[now.key()] && !now.executes() {
		return
	}
	if now == nil || now.pid != s.epoch || now.in < c.w.incarnation && x.n.promised >= c.w.incarnation {
		pid := uint64(0)
		on := "nowhere"
		if now != nil {
			pid, on = now.pid, now.n.name
		}
		c.w.fail("machine", "a write of %s's process %d on %s landed, but it runs as process %d on %s", groupName(int(s.group)), s.epoch, x.n.name, pid, on)
	}
}

// woken is called when a node or its noded goes on after it stood still: by then
// what it must not run any more has been ended.
func (c *machineCheck) woken(n *node) {
	for _, m := range n.machines {
		if slices.Contains(c.waking, m) {
			continue // judged when it begins
		}
		if now := c.current[m.key()]; now != nil && now != m && now.executes() && m.executes() {
			c.w.fail("machine", "%s woke and runs %s, process %d, which runs on %s, process %d", n.name, m.group, m.pid, now.n.name, now.pid)
		}
	}
}
