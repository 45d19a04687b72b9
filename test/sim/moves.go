package sim

import (
	"errors"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/migration"
)

// moves are the migrations from and to a node: a twin of cluster/node's moves and
// of migration/agent around the product's own step machines.
type moves struct {
	c       *clusterd
	sources map[string]*sourceEnd
	coming  map[string]bool
}

// moving names the machines that are in a migration's hands.
func (v *moves) moving() map[string]bool {
	out := map[string]bool{}
	for g := range v.sources {
		out[g] = true
	}
	for g := range v.coming {
		out[g] = true
	}
	return out
}

// What migration/agent does.
const (
	pollEvery = 100 * time.Millisecond
	pingEvery = time.Second
	silence   = 5 * time.Second
)

// control is the connection between the two ends of a migration.
type control struct {
	w      *world
	source *sourceEnd
	target *targetEnd
	heard  [2]time.Duration // when the source's, the target's end last heard the other
	closed bool
	queued [2]time.Duration // when the last message in each direction arrives
}

// say sends a message in order: up is from the target to the source.
func (k *control) say(up bool, from, to *clusterd, arrive func()) {
	side := 1
	if up {
		side = 0
	}
	at := max(k.w.e.now+k.w.e.between(100*time.Microsecond, 500*time.Microsecond), k.queued[side])
	k.queued[side] = at
	k.w.e.after(at-k.w.e.now, nil, func() {
		if k.closed || from.p.dead || to.p.dead || !k.w.connected(from.n.id, to.n.id) {
			return
		}
		k.w.e.happen(to.p, func() { k.heard[side] = k.w.e.now; arrive() })
	})
}

// sourceEnd drives a migration from its source.
type sourceEnd struct {
	c       *clusterd
	s       *migration.Source
	act     cluster.MoveMachine
	m       *machine
	k       *control
	relay   *relay
	inbox   []migration.SourceInput
	started bool
	first   bool
	cmd     *pb.Command
	outcome migration.Outcome
	reason  string
}

func (v *moves) end(act cluster.MoveMachine, reason string) error {
	_, err := v.c.propose(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: act.Group, Id: act.Migration, Reason: reason}}})
	return err
}

func (v *moves) run(act cluster.MoveMachine) error {
	c := v.c
	m := c.n.machine(act.Group)
	if m == nil {
		return v.end(act, "the machine is gone")
	}
	if _, err := c.storage.settle(act.Group); err != nil {
		return v.end(act, err.Error())
	}
	peer := c.w.node(act.To)
	if peer == nil || peer.clusterd == nil || peer.clusterd.v == nil || !c.w.connected(c.n.id, act.To) {
		c.w.e.sleep(time.Second)
		return v.end(act, "the target cannot be reached")
	}
	x := &sourceEnd{c: c, s: migration.NewSource(migration.SourceOptions{}), act: act, m: m, first: true, cmd: &pb.Command{
		Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: act.Group, Id: act.Migration, Epoch: act.Epoch}},
	}}
	m.mig = transfer{}
	x.k = &control{w: c.w, source: x, heard: [2]time.Duration{c.w.e.now, c.w.e.now}}
	x.k.target = &targetEnd{c: peer.clusterd, t: migration.NewTarget(migration.TargetOptions{}), k: x.k, group: act.Group, id: act.Migration, epoch: act.Epoch}
	if v.sources == nil {
		v.sources = map[string]*sourceEnd{}
	}
	v.sources[act.Group] = x
	x.drive()
	delete(v.sources, act.Group)
	x.k.closed = true
	c.w.tell(c.n.name, "the move of %s to s%d ended: %v %s", act.Group, act.To, x.outcome, x.reason)
	c.w.checks.migration.ended(x)
	switch x.outcome {
	case migration.Moved, migration.MovedUnseen, migration.OutcomeNone:
		c.w.done.Moves++
		return nil
	}
	c.w.done.MovesFailed++
	return v.end(act, x.reason)
}

// drive runs the step machine to its end.
func (x *sourceEnd) drive() {
	e := x.c.w.e
	x.step(x.status())
	x.step(migration.Begin{PauseFirst: x.c.w.pauseFirst})
	pinged, lost := time.Duration(0), false
	for x.outcome == migration.OutcomeNone {
		for len(x.inbox) > 0 && x.outcome == migration.OutcomeNone {
			in := x.inbox[0]
			x.inbox = x.inbox[1:]
			x.step(in)
		}
		if in := x.status(); in != nil {
			x.step(in)
		}
		x.step(migration.Tick{})
		if e.now-pinged >= pingEvery {
			pinged = e.now
			x.tell(nil)
		}
		if !lost && e.now-x.k.heard[0] > silence {
			lost = true
			x.step(migration.ControlLost{Reason: "silence"})
		}
		if x.outcome == migration.OutcomeNone {
			e.sleep(pollEvery)
		}
	}
}

// status is what QEMU answers, nil where it does not.
func (x *sourceEnd) status() migration.SourceInput {
	switch {
	case x.m.p.dead:
		return migration.SourceLost{Reason: "it ended"}
	case x.m.p.still:
		return nil
	}
	st := migration.SourceStatus{Run: x.m.runState(), Sample: migration.Sample{Total: 1, Rounds: 1}}
	if x.started {
		st.Transfer = x.m.mig.state
	}
	return st
}

func (x *sourceEnd) step(in migration.SourceInput) {
	if in == nil {
		return
	}
	for _, e := range x.s.Step(x.c.n.now(), in) {
		x.carry(e)
	}
}

// tell sends a message to the target; nil is a ping.
func (x *sourceEnd) tell(in migration.TargetInput) {
	t := x.k.target
	x.k.say(false, x.c, t.c, func() {
		if in != nil {
			t.take(in)
		}
	})
}

func (x *sourceEnd) carry(effect migration.SourceEffect) {
	switch e := effect.(type) {
	case migration.PrepareTarget:
		x.tell(migration.Offered{})
	case migration.StartTransfer:
		t := x.k.target
		if x.m.p.dead || t.m == nil || t.m.p.dead || x.m.p.still {
			x.inbox = append(x.inbox, migration.TransferRefused{Reason: "QEMU does not answer"})
			return
		}
		x.started = true
		x.relay = connect(x.c.w, x.m, t.m, x.c, t.c, x.c.w.pauseFirst)
	case migration.PauseSource:
		if !x.m.p.dead && !x.m.p.still {
			x.m.pause("paused")
			x.m.mig.run = migration.Paused
		}
	case migration.ContinueTransfer:
		x.relay.goOn = true
	case migration.CloseRelay:
		if x.relay != nil {
			x.relay.cut()
		}
	case migration.KillTarget:
		x.tell(migration.ToldKill{})
	case migration.ProposeSwitch:
		x.c.p.spawn(x.propose)
	case migration.TellRun:
		x.tell(migration.ToldRun{})
	case migration.ResumeSource:
		if !x.m.p.dead && !x.m.p.still {
			x.m.run("the move was given up")
		}
	case migration.KillSource:
		x.m.quit()
	case migration.SourceFinished:
		x.outcome, x.reason = e.Outcome, e.Reason
	}
}

// propose proposes that ownership passes. Asked again, it proposes the same
// command, which counts once.
func (x *sourceEnd) propose() {
	x.c.w.moment(atSwitch, x.c.n, 2*time.Millisecond)
	var err error
	if x.first {
		x.first = false
		_, err = x.c.propose(x.cmd)
	} else {
		_, err = x.c.proposeAgain(x.cmd)
	}
	answer := migration.AnswerUnknown
	var refused *refusedError
	switch {
	case err == nil:
		answer = migration.AnswerCommitted
	case errors.As(err, &refused):
		answer = x.refused()
	}
	x.inbox = append(x.inbox, migration.Answered{Answer: answer, Reason: "see the database"})
}

// refused finds out who owns the machine after a refusal.
func (x *sourceEnd) refused() migration.Answer {
	g, err := x.c.groupNow(x.act.Group)
	switch {
	case err != nil:
		return migration.AnswerUnknown
	case g.Owner == x.act.From && g.Epoch == x.act.Epoch:
		return migration.AnswerRefused
	case g.Owner == x.act.To && g.Epoch == x.act.Epoch+1:
		return migration.AnswerCommitted
	}
	return migration.AnswerSuperseded
}

// groupNow reads a group linearizably.
func (c *clusterd) groupNow(name string) (*pb.Group, error) {
	if err := c.barrier(); err != nil {
		return nil, err
	}
	if g := c.db.State().Groups[name]; g != nil {
		return g, nil
	}
	return nil, errUnknown
}

// targetEnd is a migration's target.
type targetEnd struct {
	c       *clusterd
	t       *migration.Target
	k       *control
	group   string
	id      uint64 // the migration
	epoch   uint64
	m       *machine
	inbox   []migration.TargetInput
	running bool // its loop has begun
	asking  bool
	outcome migration.TargetOutcome
}

// take takes a message of the source in.
func (t *targetEnd) take(in migration.TargetInput) {
	t.inbox = append(t.inbox, in)
	if !t.running {
		t.running = true
		t.c.p.spawn(t.drive)
	}
}

func (t *targetEnd) drive() {
	e := t.c.w.e
	pinged, lost := time.Duration(0), false
	for t.outcome == migration.TargetNone {
		for len(t.inbox) > 0 && t.outcome == migration.TargetNone {
			in := t.inbox[0]
			t.inbox = t.inbox[1:]
			t.step(in)
		}
		switch {
		case t.m == nil:
		case t.m.p.dead:
			t.step(migration.TargetLost{Reason: "it ended"})
		case !t.m.p.still:
			t.step(migration.TargetStatus{Run: t.m.runState(), Transfer: t.m.mig.state})
		}
		t.step(migration.TargetTick{})
		if e.now-pinged >= pingEvery {
			pinged = e.now
			t.tell(nil)
		}
		if !lost && (t.k.closed || e.now-t.k.heard[1] > silence) {
			lost = true
			t.step(migration.SourceSilent{Reason: "silence"})
		}
		if t.outcome == migration.TargetNone {
			e.sleep(pollEvery)
		}
	}
	delete(t.c.moves.coming, t.group)
	t.c.w.tell(t.c.n.name, "the move of %s to here ended: %v", t.group, t.outcome)
	t.c.again()
}

func (t *targetEnd) step(in migration.TargetInput) {
	for _, e := range t.t.Step(t.c.n.now(), in) {
		t.carry(e)
	}
}

// tell sends a message to the source; nil is a ping.
func (t *targetEnd) tell(in migration.SourceInput) {
	x := t.k.source
	t.k.say(true, t.c, x.c, func() {
		if in != nil {
			x.inbox = append(x.inbox, in)
		}
	})
}

func (t *targetEnd) carry(effect migration.TargetEffect) {
	switch e := effect.(type) {
	case migration.Prepare:
		t.c.p.spawn(t.prepare)
	case migration.SendReady:
		t.tell(migration.TargetReady{})
	case migration.SendLoaded:
		t.c.w.moment(whenLoaded, t.c.n, 2*time.Millisecond)
		t.tell(migration.TargetLoaded{})
	case migration.SendRunning:
		t.tell(migration.TargetRunning{})
	case migration.SendGone:
		t.tell(migration.TargetGone{})
	case migration.SendFailed:
		t.tell(migration.TargetFailed(e))
	case migration.KillTargetQEMU:
		if t.m != nil {
			t.m.quit()
		}
	case migration.Continue:
		if t.m != nil && !t.m.p.dead && !t.m.p.still && t.m.mig.state == migration.TransferCompleted {
			t.m.run("moved here")
		}
	case migration.AskOwner:
		if !t.asking {
			t.asking = true
			t.c.p.spawn(t.ask)
		}
	case migration.TargetFinished:
		t.outcome = e.Outcome
	}
}

// prepare makes the process that receives a machine, if the database wants it here.
func (t *targetEnd) prepare() {
	refuse := func(why string) { t.inbox = append(t.inbox, migration.PrepareFailed{Reason: why}) }
	g, err := t.c.groupNow(t.group)
	switch {
	case err != nil:
		refuse("the database does not answer")
		return
	case g.Migration == nil || g.Migration.To != t.c.n.id || g.Epoch != t.epoch:
		refuse("it is not to be moved here")
		return
	}
	v := &t.c.moves
	if v.coming == nil {
		v.coming = map[string]bool{}
	}
	v.coming[t.group] = true
	volume := g.Volume
	t.c.w.e.sleep(t.c.w.e.between(20*time.Millisecond, 300*time.Millisecond))
	if t.m = t.c.n.launch(t.group, volume, true); t.m == nil {
		delete(v.coming, t.group)
		refuse(errMachine.Error())
		return
	}
	t.m.mig = transfer{run: migration.Awaiting}
	t.inbox = append(t.inbox, migration.Prepared{})
}

func (t *targetEnd) ask() {
	g, err := t.c.groupNow(t.group)
	owner := migration.OwnerUnknown
	if err == nil {
		owner = cluster.OwnerAtTarget(g, t.c.n.id, t.epoch, t.id)
	}
	t.asking = false
	if owner != migration.OwnerUnknown {
		t.inbox = append(t.inbox, migration.OwnerIs{Owner: owner})
	}
}

// cancel asks a migration to end; where none runs here, it is over already.
func (v *moves) cancel(group string) error {
	if x := v.sources[group]; x != nil {
		x.inbox = append(x.inbox, migration.Cancel{Reason: "cancelled by the administrator"})
		return nil
	}
	return v.end(cluster.MoveMachine{Group: group, Migration: v.c.db.State().Groups[group].GetMigration().GetId()}, "cancelled by the administrator")
}

// recover puts a process right that an earlier clusterd left behind.
func (v *moves) recover(act cluster.RecoverMachine) error {
	m := v.c.n.machine(act.Group)
	if m == nil {
		return nil
	}
	for end := v.c.w.e.now + time.Minute; v.c.w.e.now < end; v.c.w.e.sleep(200 * time.Millisecond) {
		owner := v.owner(act.Group, act.Incoming)
		if m.p.dead || owner == migration.OwnerElse {
			m.quit()
			return nil
		}
		if m.p.still {
			continue
		}
		action := migration.Recover(act.Incoming, m.runState(), m.mig.state, owner)
		if action != migration.ActWait {
			v.c.w.tell(v.c.n.name, "recovers %s: %v", act.Group, action)
		}
		switch action {
		case migration.ActLeave:
			return errors.New("it was left as it is")
		case migration.ActResume:
			m.run("recovered")
			v.c.clearStates(act.Group)
			return nil
		case migration.ActKill, migration.ActRestart:
			m.quit()
			return nil
		}
	}
	return errUnknown
}

func (v *moves) owner(group string, incoming bool) migration.Owner {
	g, err := v.c.groupNow(group)
	switch {
	case err != nil:
		return migration.OwnerUnknown
	}
	if cmd := cluster.Settle(g, v.c.n.id); cmd != nil {
		_, _ = v.c.propose(cmd)
		return migration.OwnerUnknown
	}
	return cluster.OwnerOfLeftover(g, v.c.n.id, incoming)
}
