package sim

import "slices"

// machineCheck: at most one process of a machine runs, and none but that writes to
// the machine's disk, whatever the database says.
//
// Nor does one go on from memory that is older than the disk: once another process
// of the machine has run, only what took its memory over may.
type machineCheck struct {
	w       *world
	current map[string]*machine // by group: the process that ran last
	stints  map[string]uint64   // by group: how often some process began to run
	// waking are processes that run as soon as their noded does.
	waking []*machine
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
	if old := c.current[m.group]; old != nil && old != m && old.executes() && m.executes() {
		c.w.fail("machine", "%s runs on %s, process %d, and on %s, process %d", m.group, m.n.name, m.pid, old.n.name, old.pid)
	}
	if fresh := !m.incoming && m.stint == 0; !fresh && m.stint != c.stints[m.group] {
		c.w.fail("machine", "%s goes on as process %d on %s with what it knew before another ran, process %d on %s", m.group, m.pid, m.n.name, c.current[m.group].pid, c.current[m.group].n.name)
	}
	c.stints[m.group]++
	m.stint = c.stints[m.group]
	c.current[m.group] = m
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

func (c *machineCheck) landed(x *nexus, s stamp) {
	// What passed the gate shows that the noded has begun to wake.
	if i := slices.IndexFunc(c.waking, func(m *machine) bool { return m.pid == s.epoch }); i >= 0 {
		if m := c.waking[i]; c.awaited(m) {
			c.begins(m)
		}
	}
	if now := c.current[groupName(int(s.group))]; now == nil || now.pid != s.epoch {
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
		if now := c.current[m.group]; now != nil && now != m && now.executes() && m.executes() {
			c.w.fail("machine", "%s woke and runs %s, process %d, which runs on %s, process %d", n.name, m.group, m.pid, now.n.name, now.pid)
		}
	}
}
