package sim

import (
	"errors"
	"fmt"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/internal/mutant"
	"quorate/migration"
)

// stateFile is a machine's saved state on its volume.
type stateFile struct {
	stint uint64 // of the memory in it, as machineCheck counts; 0: it is not whole
	used  int    // how often a process ran by it
}

// stateKey names one.
type stateKey struct {
	group string
	id    uint64
}

var (
	errState    = errors.New("its saved state cannot be used")
	errNotSaved = errors.New("it could not be saved")
)

// writes tells whether a node can write to a volume at the moment.
func (n *node) writes(volume string) bool {
	d := n.noded
	return d != nil && d.p.awake() && !n.broken && d.volumes[volume] != nil && !d.volumes[volume].shut
}

// clearStates removes what crashed saves of a machine have left.
func (c *clusterd) clearStates(group string) {
	s := c.db.State()
	g := s.Groups[group]
	for k := range c.w.states { // the order does not matter: each is removed or not
		if k.group == group && k.id <= s.NextSave && k.id != g.GetSaved().GetId() && k.id != g.GetSaving().GetId() {
			delete(c.w.states, k)
		}
	}
}

// saveMachine is cluster/node's save.
func (c *clusterd) saveMachine(act cluster.SaveMachine) error {
	m := c.n.machine(act.Group)
	if m == nil {
		return nil
	}
	g, err := c.groupNow(act.Group)
	if err != nil {
		return err
	}
	if g.Saving.GetId() != act.Save || g.Epoch != act.Epoch || g.Owner != c.n.id {
		return nil
	}
	c.clearStates(act.Group)
	key := stateKey{act.Group, act.Save}
	if !c.writeState(m, act, key) {
		delete(c.w.states, key)
		return c.runOn(m, act)
	}
	c.w.moment(whenSaved, c.n, 5*time.Millisecond)
	_, err = c.propose(&pb.Command{Kind: &pb.Command_GroupSaved{GroupSaved: &pb.GroupSaved{Name: act.Group, Id: act.Save, Epoch: act.Epoch, NodeEpoch: act.NodeEpoch, Size: 1}}})
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		delete(c.w.states, key)
		return c.runOn(m, act)
	case err != nil:
		return err // it stands still until that is known
	}
	c.w.done.Saves++
	c.w.e.sleep(c.w.e.between(0, 50*time.Millisecond))
	m.quit()
	return nil
}

// writeState pauses a machine once its disk has answered, and writes its state.
func (c *clusterd) writeState(m *machine, act cluster.SaveMachine, key stateKey) bool {
	m.mig.settling = true
	for end := c.w.e.now + time.Minute; m.busy && !m.p.dead && c.w.e.now < end; {
		c.w.e.sleep(20 * time.Millisecond)
	}
	m.mig.settling = false
	if m.busy || m.p.dead || m.p.still || !m.running {
		return false
	}
	m.pause("")
	m.mig.state, m.mig.run = migration.TransferFailed, migration.Paused // where clusterd dies its stream is broken
	f := &stateFile{}
	c.w.states[key] = f
	for range 1 + c.w.e.rand.IntN(20) {
		c.w.e.sleep(100 * time.Millisecond)
		if m.p.dead || m.p.still || !c.n.writes(act.Volume) || c.db.State().Groups[act.Group].GetSaving().GetId() != act.Save {
			return false
		}
	}
	if c.w.e.chance(10) { // the volume is full
		return false
	}
	f.stint = m.stint
	m.mig.state, m.mig.run = migration.TransferCompleted, migration.Sent
	return true
}

// runOn calls a save off, and lets the machine run on.
func (c *clusterd) runOn(m *machine, act cluster.SaveMachine) error {
	var refused *refusedError
	if _, err := c.propose(cluster.EndSave(act.Group, act.Save, errNotSaved.Error())); err != nil && !errors.As(err, &refused) {
		return err
	}
	g, err := c.groupNow(act.Group)
	if err != nil {
		return err
	}
	if g.Saved == nil && g.Owner == c.n.id && g.Epoch == act.Epoch && !m.p.still {
		m.run("it was not saved")
	}
	return errNotSaved
}

// restore is cluster/node's: it makes a process of a machine from its saved state.
func (c *clusterd) restore(act cluster.StartMachine, attempt uint64) error {
	f := c.w.states[stateKey{act.Group, act.Saved}]
	switch {
	case f == nil || f.stint == 0:
		return errState
	case c.w.e.chance(20):
		return errMachine // as if the node did not suit it
	}
	volume := c.db.State().Groups[act.Group].GetVolume()
	m := c.n.launch(act.Group, volume, true)
	if m == nil {
		return errMachine
	}
	m.mig = transfer{run: migration.Awaiting}
	c.w.e.sleep(c.w.e.between(50*time.Millisecond, 2*time.Second))
	if m.p.dead || m.p.still {
		m.quit()
		return errMachine
	}
	m.mig.state, m.mig.run, m.stint, m.from = migration.TransferCompleted, migration.Paused, f.stint, f
	err := c.useUp(act, attempt)
	if err == nil && !c.n.writes(volume) {
		err = errMachine // the file cannot be removed
	}
	if err != nil {
		m.quit()
		return err
	}
	if !mutant.On("state used twice") {
		delete(c.w.states, stateKey{act.Group, act.Saved})
	}
	c.w.e.sleep(c.w.e.between(0, 20*time.Millisecond))
	if m.p.dead || m.p.still {
		m.quit()
		return errMachine
	}
	c.w.done.Restores++
	m.run("restored")
	return nil
}

// useUp commits that a state is used up, while the node's epoch lasts. It ends when the
// database has answered.
func (c *clusterd) useUp(act cluster.StartMachine, attempt uint64) error {
	if !c.keeps(act.NodeEpoch) {
		return errKeeper
	}
	c.w.moment(whenRestored, c.n, 5*time.Millisecond)
	cmd := &pb.Command{Kind: &pb.Command_GroupResume{GroupResume: &pb.GroupResume{
		Name: act.Group, Id: act.Saved, Epoch: act.Epoch, NodeEpoch: act.NodeEpoch, Attempt: attempt,
	}}}
	_, err := c.propose(cmd)
	var refused *refusedError
	for err != nil && !errors.As(err, &refused) {
		_, err = c.proposeAgain(cmd)
	}
	return err
}

// saveCheck: a saved state is used at most once, whoever has its file.
type saveCheck struct{ w *world }

// runs is called when a process begins to run that was made from a state.
func (c *saveCheck) runs(m *machine) {
	if m.from.used++; m.from.used > 1 {
		c.w.fail("save", "%s runs on %s, process %d, from a saved state that was used before", m.group, m.n.name, m.pid)
	}
	m.from = nil
}

// left names a state of a machine that runs and is not to be saved: its file should be gone.
func (c *saveCheck) left(g *pb.Group) string {
	if g.Status.GetState() != pb.GroupState_GROUP_STATE_ONLINE || c.w.incarnation > 1 {
		return ""
	}
	for id := uint64(1); id <= c.w.lastSave; id++ {
		if c.w.states[stateKey{g.Name, id}] != nil {
			return fmt.Sprintf("state %d of %s is left, and it is %v", id, g.Name, g.Status.GetState())
		}
	}
	return ""
}

// applied takes in that a command has made another thing of what a machine should be: a
// save, or a state that is of no use.
func (c *saveCheck) applied(incarnation uint64, s *pb.State, cmd *pb.Command) {
	name := cmd.GetGroupSaved().GetName()
	if r := cmd.GetGroupReport(); r.GetStatus().GetState() == pb.GroupState_GROUP_STATE_FAILED && r.GetSaved() != 0 {
		name = r.Name
	}
	c.w.lastSave = max(c.w.lastSave, s.NextSave)
	g := s.Groups[name]
	if g == nil || g.Desire != pb.Desire_DESIRE_STOPPED {
		return
	}
	h := &c.w.checks.history
	if i := h.begin(clients, wish{group: name, in: incarnation, write: true, value: g.Desire}); i >= 0 {
		h.ops[i].Call = int64(max(0, c.w.e.now-commitWithin)) // it counted when it was committed
		h.end(i, g.Desire, false)
	}
}

// commitWithin is for how long a command may have been committed when the first replica
// applies it.
const commitWithin = time.Minute
