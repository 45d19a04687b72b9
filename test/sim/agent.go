package sim

import (
	"errors"
	"slices"
	"strings"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/disk"
	"quorate/internal/mutant"
)

// look is the agent's loop once: see what is here, ask what is to be done, begin it.
func (c *clusterd) look() bool {
	c.acting = false
	s := c.db.State()
	if s.Cluster == nil {
		return true
	}
	c.describe(s)
	for _, act := range c.db.Act(c.local()) {
		c.lane(act.Lane(), func() {
			if c.act(act) == nil {
				c.again()
			}
		})
	}
	return true
}

// again has the agent look soon.
func (c *clusterd) again() {
	soon := time.Millisecond
	if c.many() {
		soon = 300 * time.Millisecond
	}
	if !c.acting {
		c.acting = true
		c.w.e.after(soon, c.p, func() { c.look() })
	}
}

// local is what the node sees of itself.
func (c *clusterd) local() cluster.Local {
	l := cluster.Local{
		Node: c.n.id, WallMS: c.n.wall(), Volumes: map[string]cluster.LocalVolume{}, Machines: map[string]cluster.LocalMachine{},
		Moving: c.moves.moving(),
	}
	if d := c.n.noded; d != nil && !d.p.still {
		l.Keeper, l.KeeperState, l.KeeperEpoch, l.Lease = true, d.state, d.conf.epoch, d.lease.Valid(c.n.mono())
		l.Addresses = sorted(c.n.held)
		for name, a := range d.volumes {
			lv := cluster.LocalVolume{Epoch: a.epoch, Coordinating: a.coord != nil, Size: volumeSize, Free: volumeSize, Key: c.keys[name], Released: d.conf.released[name]}
			lv.State, lv.Reason = a.status()
			l.Volumes[name] = lv
		}
	}
	for name := range c.storage.holding {
		l.Moving[name] = true
	}
	for _, m := range slices.Clone(c.n.ended) {
		if c.n.dying(m.group) {
			l.Moving[m.group] = true
		}
	}
	for lane := range c.busy { // what is under way with a machine may be making its process
		if name, ok := strings.CutPrefix(lane, cluster.StartMachine{}.Lane()); ok {
			l.Moving[name] = true
		}
	}
	for _, m := range c.n.machines {
		if c.busy[cluster.StartMachine{Group: m.group}.Lane()] {
			l.Moving[m.group] = true
			continue
		}
		lm := cluster.LocalMachine{Running: m.running, Incoming: m.incoming, Paused: m.paused}
		if m.p.still {
			lm = cluster.LocalMachine{Hung: true, Running: true, Incoming: m.incoming}
		}
		l.Machines[m.group] = lm
	}
	return l
}

var (
	errKeeper  = errors.New("noded does not answer")
	errMachine = errors.New("the machine could not be started")
)

// keeper runs do in noded, as a call over its socket.
func (c *clusterd) keeper(limit time.Duration, do func(*noded) error) error {
	d := c.n.noded
	if d == nil {
		c.w.e.sleep(10 * time.Millisecond)
		return errKeeper
	}
	s := c.w.e.signal()
	err := errKeeper
	d.p.spawn(func() {
		got := do(d)
		if !s.done {
			err = got
			s.fire()
		}
	})
	s.waitFor(limit)
	return err
}

// What cluster/node allows.
const (
	attachTimeout = 20 * time.Second
	fenceTimeout  = 60 * time.Second
)

// act carries one action out.
func (c *clusterd) act(act cluster.Action) error {
	switch act := act.(type) {
	case cluster.Configure:
		return c.keeper(attachTimeout, func(d *noded) error { return d.configure(act.Epoch) })
	case cluster.Release:
		if err := c.keeper(attachTimeout, (*noded).release); err != nil {
			return err
		}
		_, err := c.propose(&pb.Command{Kind: &pb.Command_NodeDown{NodeDown: &pb.NodeDown{
			Node: c.n.id, Epoch: act.Epoch, Fencer: c.n.id, Reason: "it had lost its lease, and stopped everything", SaidStopped: true,
		}}})
		return err
	case cluster.Attach:
		err := c.keeper(attachTimeout, func(d *noded) error {
			return d.attach(act.Volume, c.w.luns[act.Disk], disk.Key(act.Key), act.Epoch)
		})
		if err == nil {
			c.keys[act.Volume] = act.Key
		}
		return err
	case cluster.Coordinate:
		return c.volume(act.Volume, func(a *attached) error { return a.coordinate(act.Epoch) })
	case cluster.Relinquish:
		return c.volume(act.Volume, func(a *attached) error { return a.letGo() })
	case cluster.FenceDisk:
		return c.fence(act)
	case cluster.StartMachine:
		return c.startMachine(act)
	case cluster.SaveMachine:
		return c.saveMachine(act)
	case cluster.StopMachine:
		return c.stopMachine(act)
	case cluster.KillMachine:
		if m := c.n.machine(act.Group); m != nil {
			c.w.tell(c.n.name, "kills %s: %s", act.Group, act.Why)
			m.quit()
		}
		return nil
	case cluster.ResumeMachine:
		if m := c.n.machine(act.Group); m != nil {
			m.run("its disk is back")
		}
		return nil
	case cluster.HoldAddress:
		return c.holdAddress(act)
	case cluster.DropAddress:
		return c.keeper(addressTimeout, func(d *noded) error { return d.drop(act.Address) })
	case cluster.RecoverMachine:
		return c.moves.recover(act)
	case cluster.MoveMachine:
		return c.moves.run(act)
	case cluster.MoveStorage:
		return c.storage.move(act)
	case cluster.CleanStorage:
		return c.storage.clean(act)
	case cluster.CancelMove:
		return c.moves.cancel(act.Group)
	case cluster.Report:
		_, err := c.propose(act.Command)
		return err
	}
	panic("sim: an action that nothing knows")
}

func (c *clusterd) volume(name string, do func(*attached) error) error {
	return c.keeper(attachTimeout, func(d *noded) error {
		a := d.volumes[name]
		if a == nil {
			return errKeeper
		}
		return do(a)
	})
}

// fence removes a dead node's key from a disk, and proposes the proof.
func (c *clusterd) fence(act cluster.FenceDisk) error {
	var generation uint32
	err := c.keeper(fenceTimeout, func(d *noded) error {
		a := d.volumes[act.Volume]
		if a == nil {
			return errKeeper
		}
		var err error
		generation, err = a.fenceKey(disk.Key(act.VictimKey))
		return err
	})
	if err != nil {
		c.w.e.sleep(50 * time.Millisecond)
		return err
	}
	c.w.done.Fences++
	c.w.tell(c.n.name, "has fenced s%d on %s", act.Node, act.Volume)
	_, err = c.propose(&pb.Command{Kind: &pb.Command_FenceProof{FenceProof: &pb.FenceProof{Node: act.Node, Epoch: act.Epoch, Proof: &pb.Proof{
		Kind: pb.ProofKind_PROOF_KIND_KEYS_REMOVED, Disk: act.Disk, Generation: generation, AtMs: c.n.wall(),
	}}}})
	return err
}

func (c *clusterd) report(name string, epoch uint64, state pb.GroupState, detail string) error {
	_, err := c.propose(&pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: name, Status: &pb.GroupStatus{
		State: state, Node: c.n.id, Epoch: epoch, Detail: detail,
	}}}})
	return err
}

// keeps tells whether noded keeps the node's epoch.
func (c *clusterd) keeps(epoch uint64) bool {
	d := c.n.noded
	return d != nil && d.state == "active" && (d.conf.epoch == epoch || mutant.On("epoch ignored"))
}

// startMachine commits that the machine starts here, which is what authorises it,
// and starts it, or restores it.
func (c *clusterd) startMachine(act cluster.StartMachine) error {
	report := func(st pb.GroupState, saved uint64, why string) (*pb.Result, error) {
		return c.propose(&pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: act.Group, Saved: saved, Status: &pb.GroupStatus{
			State: st, Node: c.n.id, Epoch: act.Epoch, Detail: why,
		}}}})
	}
	res, err := report(pb.GroupState_GROUP_STATE_STARTING, act.Saved, "")
	if err != nil {
		return err
	}
	volume := c.db.State().Groups[act.Group].GetVolume() // it does not move elsewhere before it runs
	c.w.e.sleep(c.w.e.between(20*time.Millisecond, 400*time.Millisecond) + c.n.slowStart)
	for end := c.w.e.now + 30*time.Second; c.n.dying(act.Group) && c.w.e.now < end; {
		c.w.e.sleep(100 * time.Millisecond)
	}
	if !c.keeps(act.NodeEpoch) {
		return errKeeper // what this node had is over
	}
	c.clearStates(act.Group)
	switch {
	case act.Saved != 0:
		err = c.restore(act, res.Number)
	case c.w.e.chance(40) || c.n.launch(act.Group, volume, false) == nil:
		err = errMachine
	}
	if err != nil {
		useless := uint64(0)
		if errors.Is(err, errState) {
			useless = act.Saved
		}
		_, rerr := report(pb.GroupState_GROUP_STATE_FAILED, useless, err.Error())
		return errors.Join(err, rerr)
	}
	_, err = report(pb.GroupState_GROUP_STATE_ONLINE, 0, "")
	return err
}

func (c *clusterd) stopMachine(act cluster.StopMachine) error {
	m := c.n.machine(act.Group)
	if m == nil {
		return nil
	}
	if !act.Hard {
		c.w.e.sleep(c.w.e.between(100*time.Millisecond, 3*time.Second))
	}
	m.quit()
	return nil
}
