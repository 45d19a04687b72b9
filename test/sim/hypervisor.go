package sim

import (
	"slices"
	"time"
)

// machine is a QEMU process on a node. It belongs to neither daemon.
type machine struct {
	n     *node
	p     *process
	group string
	// volume is where it lives, mirror where it is on its way to.
	volume string
	mirror *mirror
	pid    uint64
	in     uint64 // the incarnation of the cluster in which it was started
	// running: its processors run. incoming: it was started to be migrated to.
	running, incoming bool
	ran               bool // its processors have run
	paused            string
	count             uint64
	stint             uint64   // in which its memory was last changed (machineCheck)
	busy              bool     // a write is under way,
	carrier           *process // in this noded
	mig               transfer
	from              *stateFile // that it was made from, until it runs
}

// launch makes a process of a machine on a node, if its disk can be opened there.
func (n *node) launch(group, volume string, incoming bool) *machine {
	d := n.noded
	if d == nil || d.p.still || n.broken || n.machine(group) != nil {
		return nil
	}
	a := d.volumes[volume]
	if a == nil || a.shut || n.dying(group) {
		return nil
	}
	n.w.qemus++
	m := &machine{n: n, p: n.process("qemu"), group: group, volume: volume, pid: uint64(n.w.qemus), in: d.in, incoming: incoming}
	n.machines = append(n.machines, m)
	n.every(m.p, 700*time.Millisecond, func() bool { m.work(); return true })
	n.w.checks.storage.starts(m)
	if !incoming {
		n.w.done.Starts++
		m.run("started")
	}
	return m
}

// run lets its processors run.
func (m *machine) run(why string) {
	if m.running || m.p.dead {
		return
	}
	m.running, m.ran, m.paused = true, true, ""
	m.n.w.tell(m.n.name, "runs %s, process %d: %s", m.group, m.pid, why)
	if m.from != nil {
		m.n.w.checks.save.runs(m)
	}
	m.n.w.checks.machine.runs(m)
	m.n.w.checks.drain.runs(m)
	m.n.w.checks.policy.runs(m)
}

func (m *machine) pause(why string) { m.running, m.paused = false, why }

// dying tells whether a killed process of a machine is still there: it is until the
// kernel has the answer to its last write.
func (n *node) dying(group string) bool {
	n.ended = slices.DeleteFunc(n.ended, func(m *machine) bool { return !m.busy || m.carrier.dead })
	return slices.ContainsFunc(n.ended, func(m *machine) bool { return m.group == group })
}

// end kills the process.
func (m *machine) end() {
	if m.p.dead {
		return
	}
	if m.busy {
		m.n.ended = append(m.n.ended, m)
	}
	if m.running {
		m.n.w.tell(m.n.name, "%s ends, process %d", m.group, m.pid)
		m.n.w.checks.machine.ends(m)
	}
	m.running = false
	m.p.kill()
	m.broken()
}

// quit is end, and takes it off the node's list.
func (m *machine) quit() {
	m.end()
	for i, have := range m.n.machines {
		if have == m {
			m.n.machines = append(m.n.machines[:i], m.n.machines[i+1:]...)
			return
		}
	}
}

// work is what a machine does: it writes a block of its disk, through noded.
func (m *machine) work() {
	d := m.n.noded
	if !m.running || m.busy || d == nil || m.mig.settling || m.mirror != nil && m.mirror.held {
		return
	}
	a := d.volumes[m.volume]
	if a == nil {
		return
	}
	m.busy, m.carrier = true, d.p
	m.n.w.checks.storage.wrote(m)
	m.count++
	b := stamp{kind: stampMachine, node: m.n.id, epoch: m.pid, group: groupNumber(m.group), count: m.count}.encode()
	d.p.spawn(func() {
		defer func() {
			m.busy = d.p.dead // a noded that dies answers nothing
		}()
		off := diskOffset + int64(groupNumber(m.group))*16*blockSize + int64(m.count%16)*blockSize
		for a.write(off, b, 5*time.Second) != nil && !a.shut { // its QEMU waits for its disk
			d.w.e.sleep(50 * time.Millisecond)
		}
	})
}
