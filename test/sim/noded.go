package sim

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"quorate/cluster/fence"
	"quorate/csv/volume"
	"quorate/disk"
)

// keeping is what noded keeps on the node's disk.
type keeping struct {
	configured     bool
	epoch, fencedE uint64
	// luns are the volumes that this node has written to since it last was sure that
	// nothing of it is under way, with its keys.
	luns     map[string]disk.Key
	released map[string]uint64 // epochs by which volumes were let go
}

// noded is what must not stop: a twin of cluster/keeper around the product's own
// lease and gate. It has the volumes' data path; of the coordinator only what
// matters to its fencing.
type noded struct {
	n       *node
	w       *world
	p       *process
	conf    keeping // what is on the disk, or is to be
	state   string
	lease   fence.Lease
	until   time.Duration // on the node's clock
	leader  uint64
	in      uint64 // the incarnation of the cluster in which it has its lease
	volumes map[string]*attached
	unclean map[string]*attached
	admin   *lock // held while volumes come and go,
	losing  *lock // and while a lost lease is dealt with
	// addressing is held while an address comes or goes.
	addressing *lock
	watched    bool
}

// What cluster/keeper allows.
const (
	drainLimit = 300 * time.Millisecond
	minAsk     = 100 * time.Millisecond
)

func (n *node) startNoded() {
	if n.noded != nil || !n.powered || n.frozen {
		return
	}
	p := n.process("noded")
	d := &noded{
		n: n, w: n.w, p: p, conf: n.keeping, state: "unjoined", volumes: map[string]*attached{}, unclean: map[string]*attached{},
		admin: &lock{e: n.w.e}, losing: &lock{e: n.w.e}, addressing: &lock{e: n.w.e},
	}
	n.noded = d
	d.killMachines() // their disks went with the last noded
	d.dropAddresses()
	for name, key := range d.conf.luns {
		d.unclean[name] = &attached{d: d, name: name, l: n.w.luns["naa."+name], key: key, io: &lock{e: n.w.e}}
	}
	if d.conf.configured {
		d.enterEpoch()
	}
	n.every(p, n.w.profile.LeaseBeat, d.renew)
}

func (d *noded) enterEpoch() {
	d.state = "waiting"
	if d.conf.epoch <= d.conf.fencedE {
		d.state = "fenced"
	}
}

func (d *noded) killMachines() {
	for _, m := range d.n.machines {
		m.end()
	}
	d.n.machines = nil
}

// renew asks for the lease once.
func (d *noded) renew() bool {
	if d.state != "waiting" && d.state != "active" {
		return true
	}
	if d.leader != 0 {
		leader, heard := d.leader, false
		d.question(leader, func(ok bool) { heard = ok })
		d.w.e.after(d.n.real(max(d.w.profile.Lease/3, minAsk)), d.p, func() {
			if !heard && d.leader == leader {
				d.leader = 0
			}
		})
		return true
	}
	for _, n := range d.w.nodes {
		d.question(n.id, func(bool) {})
	}
	return true
}

// question asks one clusterd, and where that one sends it.
func (d *noded) question(to uint64, then func(granted bool)) {
	asked, epoch := d.conf.epoch, d.conf.epoch
	sent := d.n.mono()
	limit := max(d.w.profile.Lease/3, minAsk)
	d.w.ask(d.n.id, to, func() func() {
		n := d.w.node(to)
		if n == nil || n.clusterd == nil || n.clusterd.v == nil || n.clusterd.p.still {
			return nil
		}
		a := n.clusterd.renew(d.n.id, asked)
		return func() {
			d.w.e.happen(d.p, func() {
				if d.n.mono()-sent > limit {
					return
				}
				switch {
				case a.granted:
					then(d.granted(to, epoch, sent, a))
				case a.leader != 0 && a.leader != to:
					d.question(a.leader, then)
				}
			})
		}
	})
}

type leaseAnswer struct {
	granted    bool
	in, leader uint64
	age, lease time.Duration
}

func (c *clusterd) renew(node, epoch uint64) leaseAnswer {
	if c.db.State().Cluster == nil {
		return leaseAnswer{}
	}
	a := c.leases.Renew(c.n.now(), leadership(c.leading()), c.db.State(), node, epoch)
	if a.Reason != "" {
		return leaseAnswer{leader: c.leaderNode()}
	}
	return leaseAnswer{granted: true, in: c.incarnation, age: a.Age + time.Millisecond, lease: a.Lease}
}

func (d *noded) granted(from, epoch uint64, sent time.Duration, a leaseAnswer) bool {
	if d.conf.epoch != epoch || d.state != "waiting" && d.state != "active" {
		return false
	}
	until, err := d.lease.Granted(sent, a.age, a.lease)
	now := d.n.mono()
	if err != nil || until <= now || d.state == "active" && d.until <= now {
		return false
	}
	d.until, d.leader, d.in = until, from, a.in
	if d.state == "waiting" {
		d.state = "active"
		d.w.tell(d.n.name, "has the lease, epoch %d", epoch)
	}
	d.w.checks.address.seen(d.n)
	d.watch()
	return true
}

// watch fences the node when the lease ends.
func (d *noded) watch() {
	if d.watched {
		return
	}
	d.watched = true
	d.w.e.after(d.n.real(d.until-d.n.mono())+time.Microsecond, d.p, func() {
		d.watched = false
		switch {
		case d.state != "active":
		case d.until <= d.n.mono():
			d.lose("its lease ran out")
		default:
			d.watch()
		}
	})
}

// permit is asked before each write to a volume.
func (d *noded) permit() error {
	if d.n.mono() >= d.until {
		return fence.ErrNoLease
	}
	return nil
}

// lose is what happens when the lease has run out, or another node has removed
// this node's key: gates shut, machines die, and then I/O is answered.
func (d *noded) lose(why string) {
	if d.state != "active" {
		return
	}
	if d.losing.held { // by a release
		d.p.spawn(func() {
			d.losing.Lock() // until the release is over
			defer d.lose(why)
			d.losing.Unlock()
		})
		return
	}
	d.losing.held = true
	volumes := d.volumes
	d.volumes = map[string]*attached{}
	for _, a := range volumes {
		a.shut = true
	}
	d.state = "fenced"
	d.endEpoch()
	d.w.tell(d.n.name, "fences itself: %s", why)
	d.killMachines()
	d.dropAddresses()
	d.p.spawn(func() {
		defer d.losing.Unlock()
		for _, name := range sorted(volumes) {
			a := volumes[name]
			if !a.drained() {
				d.unclean[a.name] = a
			}
			_ = a.g.Close()
		}
		_ = d.save() // else a noded after this one does not know that its epoch is over
	})
}

// save puts what must be kept on the node's disk.
func (d *noded) save() error {
	if d.n.disk.broken || d.n.disk.full {
		return errDisk
	}
	d.n.keeping = d.conf
	return nil
}

func (d *noded) endEpoch() {
	d.conf.fencedE = max(d.conf.fencedE, d.conf.epoch)
	d.lease.Revoke()
	d.until = 0
}

// release stops everything in good order, and gives the lease back: after nil
// nothing of this node can write.
func (d *noded) release() error {
	d.admin.Lock()
	defer d.admin.Unlock()
	d.killMachines()
	d.losing.Lock() // what a lost lease has begun is done
	defer d.losing.Unlock()
	d.dropAddresses()
	volumes := d.volumes
	d.volumes = map[string]*attached{}
	for _, name := range sorted(volumes) {
		a := volumes[name]
		a.shut = true
		a.coord = nil
		clean := a.drained()
		if clean {
			clean = a.unregister(a.x) == nil
		}
		_ = a.g.Close()
		if !clean {
			d.unclean[name] = a
		} else if err := d.forget(name); err != nil {
			return err
		}
	}
	if err := d.settle(); err != nil {
		return err
	}
	d.leader = 0
	if d.conf.configured {
		d.state = "released"
		d.endEpoch()
		return d.save()
	}
	return nil
}

// settle makes sure, over a new session, that nothing that was sent is still under
// way.
func (d *noded) settle() error {
	for _, name := range sorted(d.unclean) {
		a := d.unclean[name]
		if err := a.quieten(); err != nil {
			return err
		}
		delete(d.unclean, name)
		if err := d.forget(name); err != nil {
			return err
		}
	}
	return nil
}

// remember notes that this node may write to a volume's LUN.
func (d *noded) remember(name string, key disk.Key) error {
	luns := map[string]disk.Key{}
	maps.Copy(luns, d.conf.luns)
	luns[name] = key
	d.conf.luns = luns
	return d.save()
}

// forget notes that nothing of this node can be under way to a volume's LUN.
func (d *noded) forget(name string) error {
	d.conf.luns = maps.Clone(d.conf.luns)
	delete(d.conf.luns, name)
	return d.save()
}

// quieten resets a LUN over a new session, and unregisters.
func (a *attached) quieten() error {
	x, err := a.l.open(a.d.n, a.d.p, "volume")
	if err != nil {
		return err
	}
	defer func() { _ = x.Close() }()
	ctx, cancel := a.d.p.withTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = pastAttention(func() error { return x.ReadAt(ctx, make([]byte, blockSize), 0) })
	if err == nil {
		err = x.ResetUnit(ctx)
	}
	if err == nil {
		_ = a.unregister(x)
	}
	return err
}

// configure begins an epoch. What is held of an earlier one goes first.
func (d *noded) configure(epoch uint64) error {
	k := &d.conf
	if k.configured && k.epoch != epoch {
		if err := d.release(); err != nil {
			return err
		}
	}
	if k.configured && epoch < k.epoch || len(d.volumes) > 0 && epoch > k.epoch {
		return errors.New("that epoch cannot begin")
	}
	if !k.configured || k.epoch != epoch {
		before := *k
		k.configured, k.epoch = true, epoch
		if err := d.save(); err != nil {
			*k = before
			return err
		}
		d.lease, d.until, d.leader = fence.Lease{}, 0, 0
		d.enterEpoch()
	}
	return nil
}

// attached is a volume in use on a node.
type attached struct {
	d     *noded
	name  string
	l     *lun
	x     *nexus
	g     *disk.Guard
	key   disk.Key
	epoch uint64 // of the coordinator it was told of
	coord *coordinator
	// io is held by each I/O: the gate's own waiting is not the simulator's.
	io        *lock
	shut      bool
	uncertain bool
	pathLost  bool
}

// coordinator is what there is of a volume's coordinator: the epoch by which it
// writes metadata.
type coordinator struct {
	epoch uint64
	count uint64
}

func (d *noded) attach(name string, l *lun, key disk.Key, epoch uint64) error {
	if d.state != "active" || d.permit() != nil {
		return fence.ErrNoLease
	}
	d.admin.Lock()
	defer d.admin.Unlock()
	if a := d.volumes[name]; a != nil {
		if a.key != key {
			return fmt.Errorf("%s is attached with another key", name)
		}
		a.epoch = epoch
		return nil
	}
	if err := d.settle(); err != nil {
		return err
	}
	if err := d.remember(name, key); err != nil {
		return err
	}
	x, err := l.open(d.n, d.p, "volume")
	if err != nil {
		return err
	}
	a := &attached{d: d, name: name, l: l, x: x, key: key, epoch: epoch, io: &lock{e: d.w.e}}
	x.key = key
	ctx, cancel := d.p.withTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err = pastAttention(func() error { return x.ReadAt(ctx, make([]byte, blockSize), 0) })
	if err == nil {
		a.g, err = disk.NewGuard(x, disk.GuardOptions{Type: disk.WriteExclusiveRegistrantsOnly, Permit: d.permit, Persist: !l.forgets})
	}
	if err == nil {
		err = a.g.Admit(ctx, key)
	}
	if err != nil {
		_ = x.Close()
		return err
	}
	if d.state != "active" {
		a.shut = true
		_ = a.g.Close()
		return fence.ErrNoLease
	}
	d.volumes[name] = a
	d.w.tell(d.n.name, "attaches %s with key %v", name, key)
	d.n.every(d.p, time.Second, a.metadata)
	return nil
}

// write passes the gate, or does not.
func (a *attached) write(off int64, p []byte, limit time.Duration) error {
	if a.shut {
		return disk.ErrFenced
	}
	a.io.Lock()
	defer a.io.Unlock()
	if a.shut {
		return disk.ErrFenced
	}
	ctx, cancel := a.d.p.withTimeout(context.Background(), limit)
	defer cancel()
	if a.uncertain { // what was given up must not land after this
		if err := a.x.ResetUnit(ctx); err != nil {
			a.pathLost = true
			return err
		}
		a.uncertain = false
	}
	err := a.g.WriteAt(ctx, p, off)
	var sense *disk.SenseError
	switch {
	case err == nil:
		a.pathLost = false
	case errors.Is(err, disk.ErrFenced):
		if !a.shut && a.g.Fenced() != nil {
			a.d.lose("another node has removed its key")
		}
	case !errors.As(err, &sense):
		a.uncertain, a.pathLost = true, true
	}
	return err
}

// drained tells whether all that passed the gate before it was shut has been
// answered.
func (a *attached) drained() bool {
	for end := a.d.w.e.now + drainLimit; a.io.held; {
		if a.d.w.e.now >= end {
			return false
		}
		a.d.w.e.sleep(10 * time.Millisecond)
	}
	return !a.uncertain
}

func (a *attached) unregister(x *nexus) error {
	err := pastAttention(func() error {
		return x.Reserve(context.Background(), disk.ReserveOut{Action: disk.Register, Key: a.key})
	})
	if errors.Is(err, disk.ErrConflict) {
		return nil
	}
	return err
}

// fenceKey fences another node on the volume's LUN, while no I/O of this one is
// under way.
func (a *attached) fenceKey(victim disk.Key) (uint32, error) {
	a.io.Lock()
	defer a.io.Unlock()
	if a.shut {
		return 0, disk.ErrFenced
	}
	ctx, cancel := a.d.p.withTimeout(context.Background(), time.Minute)
	defer cancel()
	proof, err := disk.Fence(ctx, a.x, disk.FenceRequest{Own: a.key, Victim: victim, Type: disk.WriteExclusiveRegistrantsOnly})
	if err == nil {
		a.uncertain = false
	}
	return proof.Generation, err
}

// coordinate begins to serve the volume: what the coordinator before wrote is read
// first.
func (a *attached) coordinate(epoch uint64) error {
	if a.d.state != "active" || a.d.permit() != nil {
		return fence.ErrNoLease
	}
	if a.coord != nil && a.coord.epoch >= epoch {
		return nil
	}
	if a.d.conf.released[a.name] >= epoch {
		return fmt.Errorf("%s has let %s go at epoch %d", a.d.n.name, a.name, epoch)
	}
	if a.coord != nil {
		if err := a.relinquish(); err != nil {
			return err
		}
	}
	b := make([]byte, blockSize)
	ctx, cancel := a.d.p.withTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := a.g.ReadAt(ctx, b, metaOffset); err != nil {
		return err
	}
	found := stampOf(b)
	a.d.w.checks.coordinating(a, epoch, found)
	if found.kind == stampCoordinator && found.epoch > epoch {
		return fmt.Errorf("%w: epoch %d on %s, %d asked for", volume.ErrSuperseded, found.epoch, a.name, epoch)
	}
	a.coord = &coordinator{epoch: epoch}
	a.metadata()
	return nil
}

// letGo is relinquish at the cluster's wish; it is remembered.
func (a *attached) letGo() error {
	c := a.coord
	if err := a.relinquish(); err != nil || c == nil {
		return err
	}
	released := map[string]uint64{}
	maps.Copy(released, a.d.conf.released)
	released[a.name] = max(released[a.name], c.epoch)
	a.d.conf.released = released
	return a.d.save()
}

// relinquish ends coordinating; nothing of it can write after nil.
func (a *attached) relinquish() error {
	a.coord = nil
	a.io.Lock()
	defer a.io.Unlock()
	if !a.uncertain {
		return nil
	}
	ctx, cancel := a.d.p.withTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := a.x.ResetUnit(ctx)
	if err == nil {
		a.uncertain = false
	}
	return err
}

// metadata is a coordinator's writing, and for others a look at whether the path
// is there.
func (a *attached) metadata() bool {
	if a.shut || a.io.held || a.d.volumes[a.name] != a {
		return !a.shut
	}
	a.d.p.spawn(func() {
		if c := a.coord; c != nil {
			c.count++
			_ = a.write(metaOffset, stamp{kind: stampCoordinator, node: a.d.n.id, epoch: c.epoch, count: c.count}.encode(), 5*time.Second)
			return
		}
		ctx, cancel := a.d.p.withTimeout(context.Background(), 5*time.Second)
		defer cancel()
		err := a.g.ReadAt(ctx, make([]byte, blockSize), metaOffset)
		a.pathLost = err != nil && !errors.Is(err, disk.ErrFenced) && !errors.Is(err, disk.ErrClosed)
	})
	return true
}

// status is the volume's state, as the database knows it.
func (a *attached) status() (state, reason string) {
	switch {
	case a.g.Fenced() != nil:
		return "fenced", "its key was removed"
	case a.pathLost:
		return "path-lost", "path-lost"
	}
	return "direct", ""
}

// Where things lie on a volume, in bytes.
const (
	metaOffset = blockSize
	diskOffset = 1 << 20
)

// stamp is what is in a block that was written: by whom.
type stamp struct {
	kind  uint64
	node  uint64
	epoch uint64 // of the coordinator, or the number of the machine's process
	group uint64
	count uint64
}

const (
	stampCoordinator = 1
	stampMachine     = 2
)

func (s stamp) encode() []byte {
	b := make([]byte, blockSize)
	for i, v := range []uint64{s.kind, s.node, s.epoch, s.group, s.count} {
		binary.LittleEndian.PutUint64(b[8*i:], v)
	}
	return b
}

func stampOf(b []byte) stamp {
	at := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return stamp{kind: at(0), node: at(1), epoch: at(2), group: at(3), count: at(4)}
}

// pastAttention repeats a command that a unit attention kept from being performed.
func pastAttention(do func() error) error {
	var err error
	for range 8 {
		var ua *disk.AttentionError
		if err = do(); !errors.As(err, &ua) {
			break
		}
	}
	return err
}
