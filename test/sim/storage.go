package sim

import (
	"errors"
	"fmt"
	"time"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
)

// storageMoves are the moves of machines between volumes that a node makes: a twin of
// cluster/node's, with a folder that knows whether it has all that the machine wrote
// instead of one that has it.
type storageMoves struct {
	c       *clusterd
	copying bool            // one at a time
	holding map[string]bool // machines whose disks are held
}

// mirror is what QEMU has of a move: it outlives clusterd.
type mirror struct {
	move uint64
	to   string
	held bool // the machine waits with its writes
}

// folder is a machine's on a volume.
type folder struct {
	move  uint64 // by which it was made, or is left
	whole bool   // it has all that the machine wrote
}

var (
	errFolder  = errors.New("the folder cannot be made or read")
	errMirror  = errors.New("the mirror of a disk failed")
	errGivenUp = errors.New("it was given up")
)

// storageCheck: a machine starts from a folder that has all that it wrote, and that
// folder is not removed. Where quorum was forced, the move that the others committed is
// among what is lost.
type storageCheck struct {
	w       *world
	folders map[string]map[string]*folder // by machine and volume
	written map[string]int                // how often a machine has written
}

// begins is called with each machine that there is at first.
func (c *storageCheck) begins(group, volume string) {
	c.folders[group] = map[string]*folder{volume: {whole: true}}
}

// starts is called when a process of a machine is made.
func (c *storageCheck) starts(m *machine) {
	if f := c.folders[m.group][m.volume]; (f == nil || !f.whole) && c.w.incarnation == 0 {
		c.w.fail("storage", "%s starts on %s from %s, which has not all that it wrote", m.group, m.n.name, m.volume)
	}
}

// wrote is called when a machine writes.
func (c *storageCheck) wrote(m *machine) {
	c.written[m.group]++
	for volume, f := range c.folders[m.group] {
		f.whole = volume == m.volume
	}
}

// removed is called when a folder goes.
func (c *storageCheck) removed(n *node, group, volume string) {
	delete(c.folders[group], volume)
	for _, f := range c.folders[group] {
		if f.whole || c.w.incarnation > 0 {
			return
		}
	}
	c.w.fail("storage", "%s removes from %s the only folder with all that %s wrote", n.name, volume, group)
}

// usable tells whether a folder on a volume can be used from this node.
func (c *clusterd) usable(volume string) bool {
	d := c.n.noded
	if d == nil || d.p.still {
		return false
	}
	a := d.volumes[volume]
	return a != nil && !a.shut
}

func (v *storageMoves) move(act cluster.MoveStorage) error {
	c := v.c
	for v.copying {
		c.w.e.sleep(100 * time.Millisecond)
	}
	v.copying = true
	defer func() { v.copying = false }()
	if _, err := c.propose(&pb.Command{Kind: &pb.Command_StorageMoveBegin{StorageMoveBegin: &pb.StorageMoveBegin{Group: act.Group, Id: act.Move}}}); err != nil {
		return err
	}
	err := v.carry(act)
	c.w.tell(c.n.name, "the move of %s to %s ended: %v", act.Group, act.To, err)
	if err == nil {
		c.w.done.StorageMoves++
		return nil
	}
	_, err = c.propose(cluster.StorageFailed(act.Group, act.Move, err.Error()))
	return err
}

// pass lets time pass while the move is wanted and both volumes can be used.
func (v *storageMoves) pass(act cluster.MoveStorage, span time.Duration) error {
	for end := v.c.w.e.now + span; v.c.w.e.now < end; {
		v.c.w.e.sleep(100 * time.Millisecond)
		mv := v.c.db.State().Groups[act.Group].GetStorageMove()
		switch {
		case mv.GetId() != act.Move || mv.Step != pb.StorageStep_STORAGE_STEP_COPYING:
			return errGivenUp
		case !v.c.usable(act.From) || !v.c.usable(act.To):
			return errFolder
		}
	}
	return nil
}

func (v *storageMoves) carry(act cluster.MoveStorage) error {
	c, check := v.c, &v.c.w.checks.storage
	if !c.usable(act.From) || !c.usable(act.To) {
		return errFolder
	}
	folders := check.folders[act.Group]
	if folders[act.To] != nil {
		return errFolder // the name is taken
	}
	m, written := c.n.machine(act.Group), check.written[act.Group]
	made := &folder{move: act.Move}
	folders[act.To] = made
	if m != nil {
		m.mirror = &mirror{move: act.Move, to: act.To}
	}
	err := v.pass(act, c.w.e.between(200*time.Millisecond, 8*time.Second))
	if err == nil && folders[act.From] != nil {
		folders[act.From].move = act.Move
	}
	if m == nil {
		if err == nil {
			made.whole = check.written[act.Group] == written
			err = v.commit(act)
		}
		return err
	}
	if err == nil {
		return v.goOver(act, m)
	}
	return errors.Join(err, v.endMirror(m, act.Move, ""))
}

func (v *storageMoves) goOver(act cluster.MoveStorage, m *machine) error {
	v.hold(act.Group, true)
	defer v.hold(act.Group, false)
	err := v.holdMirror(m)
	if err == nil {
		err = v.commit(act)
	}
	if err == nil {
		return v.endMirror(m, act.Move, act.To)
	}
	return errors.Join(err, v.endMirror(m, act.Move, ""))
}

// holdMirror waits until what the machine writes has been answered, and lets it begin
// no more.
func (v *storageMoves) holdMirror(m *machine) error {
	mir := m.mirror
	if mir == nil || m.p.dead {
		return errMirror
	}
	mir.held = true
	for end := v.c.w.e.now + 5*time.Second; m.busy || m.p.still; v.c.w.e.sleep(20 * time.Millisecond) {
		if m.p.dead || v.c.w.e.now > end {
			return errMirror
		}
	}
	if m.p.dead || m.mirror != mir {
		return errMirror
	}
	if f := v.c.w.checks.storage.folders[m.group][mir.to]; f != nil {
		f.whole = true
	}
	return nil
}

func (v *storageMoves) hold(group string, on bool) {
	if v.holding == nil {
		v.holding = map[string]bool{}
	}
	if v.holding[group] = on; !on {
		delete(v.holding, group)
	}
}

// commit proposes until it is known whether the switch holds.
func (v *storageMoves) commit(act cluster.MoveStorage) error {
	c := v.c
	cmd := &pb.Command{Kind: &pb.Command_StorageMoveSwitch{StorageMoveSwitch: &pb.StorageMoveSwitch{Group: act.Group, Id: act.Move, Epoch: act.Epoch}}}
	_, err := c.propose(cmd)
	var refused *refusedError
	for err != nil && !errors.As(err, &refused) {
		c.w.e.sleep(100 * time.Millisecond)
		_, err = c.proposeAgain(cmd)
	}
	for errors.As(err, &refused) {
		g, gerr := c.groupNow(act.Group)
		switch {
		case gerr == nil && g.StorageMove.GetId() == act.Move && g.StorageMove.Moved:
			return nil
		case gerr == nil:
			return err
		}
		c.w.e.sleep(100 * time.Millisecond)
	}
	return err
}

// endMirror is QEMU's end of it: the machine goes on with the one or the other.
func (v *storageMoves) endMirror(m *machine, move uint64, lives string) error {
	if m.p.dead {
		return nil
	}
	if m.p.still {
		return errMirror
	}
	if lives != "" && m.volume != lives {
		if m.mirror == nil || !m.mirror.held || m.mirror.move != move {
			m.quit() // it is split
			return nil
		}
		m.volume = lives
	}
	m.mirror = nil
	return nil
}

func (v *storageMoves) settle(group string) (*pb.StorageMove, error) {
	if !cluster.StorageLeft(v.c.db.State().Groups[group]) {
		return nil, nil
	}
	g, err := v.c.groupNow(group)
	if err != nil {
		return nil, err
	}
	mv := g.StorageMove
	if !cluster.StorageLeft(g) || g.Owner != v.c.n.id {
		return nil, nil
	}
	if m := v.c.n.machine(group); m != nil {
		lives := ""
		if mv.Moved {
			lives = g.Volume
		}
		v.hold(group, true)
		defer v.hold(group, false)
		if err := v.endMirror(m, mv.Id, lives); err != nil {
			return nil, err
		}
	}
	return mv, nil
}

func (v *storageMoves) clean(act cluster.CleanStorage) error {
	c := v.c
	mv, err := v.settle(act.Group)
	if err != nil || mv.GetId() != act.Move {
		return err
	}
	c.w.e.sleep(c.w.e.between(time.Millisecond, time.Second)) // a removal takes its time
	if !act.Reached || !c.usable(act.Volume) {
		return fmt.Errorf("%s is not reached", act.Volume)
	}
	f := c.w.checks.storage.folders[act.Group][act.Volume]
	if f != nil && f.move == act.Move {
		c.w.checks.storage.removed(c.n, act.Group, act.Volume)
	}
	_, err = c.propose(cluster.StorageEnded(act.Group, act.Move))
	return err
}

// storage has a machine move to another volume, or gives that up.
func (a *admin) storage(c *clusterd, g string) {
	if mv := c.db.State().Groups[g].GetStorageMove(); mv.GetStep() == pb.StorageStep_STORAGE_STEP_COPYING && a.w.e.chance(3) {
		a.tried(c, "gives up the move of "+g+" to "+mv.To, cluster.StorageFailed(g, mv.Id, "the administrator gave it up"))
		return
	}
	to := a.w.volumes[a.w.e.rand.IntN(len(a.w.volumes))].name
	a.tried(c, fmt.Sprintf("moves %s to %s", g, to), &pb.Command{Kind: &pb.Command_StorageMoveStart{StorageMoveStart: &pb.StorageMoveStart{Group: g, To: to}}})
}
