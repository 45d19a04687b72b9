package sim

import (
	"context"
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/disk/journal"
	"quorate/quorum/witness"
)

// Options say what to simulate.
type Options struct {
	// Seed makes the run: the same one gives the same run.
	Seed uint64
	// Length is of the run, in simulated time.
	Length time.Duration
	// Until ends the run earlier; what happens until then is the same. 0: it does
	// not.
	Until time.Duration
	// Nodes is how many there are at the beginning, 0 for a number by the seed.
	Nodes int
	// Sites is in how many of them the nodes are, 0 for a number by the seed.
	Sites int
	// Groups is how many machines, 0 for a number by the seed.
	Groups int
	// Theme is that of every storm (see Themes), or empty: each has its own then.
	Theme string
	// Story keeps the log of what happened.
	Story bool
	// Skip are the faults, by number, that are left out.
	Skip map[int]bool
	// Losses, where it is not 0, stands for all other faults: the power of so many
	// nodes fails at a third of the run and is back at two.
	Losses int
	// LostSite, where it is not empty, stands for all other faults in the same way: the
	// power of a site fails.
	LostSite string
}

// DefaultLength is that of a run, where nothing else is said.
const DefaultLength = 20 * time.Minute

// Result is how a run ended.
type Result struct {
	Seed uint64
	// Violation is what a checker found, or nil.
	Violation *Violation
	// Simulated is how far the run came.
	Simulated time.Duration
	// Hash is over all that happened: equal runs have equal ones.
	Hash uint64
	// Story is one line for each thing of note.
	Story []string
	// Faults is how many there were, and Done what the cluster did meanwhile.
	Faults int
	Done   Done
}

// Done counts what happened in a run: a run in which nothing does proves nothing.
type Done struct {
	Commits, Elections, Takeovers, NodesDown, Fences, Starts, Moves, MovesFailed, LateWrites, Reads, Addresses, Settled int
	// Saves are the machines that were saved, Restores those that went on from that.
	Saves, Restores int
	// Policies are those that were set, Failovers the machines that went elsewhere since
	// they had failed.
	Policies, Failovers int
	// Drained are the nodes that came to be drained.
	Drained int
	// OnShare are those takeovers of a witness on a share, Broken the locks that its
	// server broke.
	OnShare, Broken int
	// StorageMoves are those between volumes that were made.
	StorageMoves int
	// Forced is how often quorum was forced, Superseded how often a node gave its state
	// up after that, and Lost how many entries only others had.
	Forced, Superseded, Lost int
	// TwoClusters is how often two incarnations of the cluster were met at once.
	TwoClusters int
	// Format is that of the database.
	Format uint32
}

func (d *Done) add(o Done) {
	d.Commits += o.Commits
	d.Elections += o.Elections
	d.Takeovers += o.Takeovers
	d.NodesDown += o.NodesDown
	d.Fences += o.Fences
	d.Starts += o.Starts
	d.Moves += o.Moves
	d.Saves += o.Saves
	d.Drained += o.Drained
	d.Policies += o.Policies
	d.Failovers += o.Failovers
	d.Restores += o.Restores
	d.MovesFailed += o.MovesFailed
	d.LateWrites += o.LateWrites
	d.Reads += o.Reads
	d.Addresses += o.Addresses
	d.Settled += o.Settled
	d.OnShare += o.OnShare
	d.StorageMoves += o.StorageMoves
	d.Broken += o.Broken
	d.Forced += o.Forced
	d.Superseded += o.Superseded
	d.Lost += o.Lost
	d.TwoClusters += o.TwoClusters
	d.Format = max(d.Format, o.Format)
}

// Violation is what a checker found.
type Violation struct {
	Checker string
	At      time.Duration
	What    string
}

// Error implements error.
func (v *Violation) Error() string { return fmt.Sprintf("%s at %v: %s", v.Checker, v.At, v.What) }

// world is everything in one run.
type world struct {
	e       *engine
	opt     Options
	profile cluster.Profile
	id      string
	nodes   []*node
	nets    []*network
	witness *lun
	server  *fileServer
	folder  string // of the witness at the beginning, where it is on a share
	folders int    // how many there were
	// incarnation is the cluster's newest.
	incarnation  uint64
	incarnations map[uint64]uint64 // each has a number
	volumes      []*lun            // in the order of their names
	luns         map[string]*lun
	checks       checks
	done         Done
	story        []string
	faults       *faults
	admin        *admin
	groups       []string
	// pauseFirst: QEMU is of a version that must be paused while it is copied.
	pauseFirst bool
	logSize    int64 // of each node's log, in bytes: a small one turns over often
	added      int   // nodes since the beginning
	pids       int
	qemus      int
	states     map[stateKey]*stateFile // of machines, on their volumes
	lastSave   uint64
}

// seeded is a random source for what draws from crypto/rand: raft its election
// timeouts.
type seeded struct{ *mathrand.PCG }

// Read implements io.Reader.
func (s seeded) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(s.Uint64() >> 32)
	}
	return len(p), nil
}

// Run simulates once. It must not be called by two goroutines at once: raft has
// one random source for all.
func Run(opt Options) (res Result) {
	if opt.Length == 0 {
		opt.Length = DefaultLength
	}
	real := rand.Reader
	rand.Reader = seeded{mathrand.NewPCG(opt.Seed, 0xe1ec)}
	defer func() { rand.Reader = real }()
	w := newWorld(opt)
	defer func() {
		if r := recover(); r != nil {
			v, ok := r.(*Violation)
			if !ok {
				v = &Violation{Checker: "panic", At: w.e.now, What: fmt.Sprintf("%v\n%s", r, stack())}
			}
			res.Violation = v
		}
		w.e.close()
		res.Seed, res.Simulated, res.Hash, res.Story, res.Faults, res.Done = opt.Seed, w.e.now, w.e.hash, w.story, len(w.faults.plan), w.done
	}()
	w.begin()
	if opt.Until == 0 || opt.Until > opt.Length {
		opt.Until = opt.Length
	}
	w.e.run(opt.Until)
	w.checks.atEnd()
	return res
}

// fail ends the run.
func (w *world) fail(checker, format string, a ...any) {
	panic(&Violation{Checker: checker, At: w.e.now, What: fmt.Sprintf(format, a...)})
}

// tell adds a line to the story.
func (w *world) tell(who, format string, a ...any) {
	if w.opt.Story {
		w.story = append(w.story, fmt.Sprintf("%10.3f  %-8s  %s", w.e.now.Seconds(), who, fmt.Sprintf(format, a...)))
	}
}

func newWorld(opt Options) *world {
	e := newEngine(opt.Seed)
	w := &world{e: e, opt: opt, id: "c1", luns: map[string]*lun{}, incarnations: map[uint64]uint64{}, states: map[stateKey]*stateFile{}}
	w.profile = cluster.Profiles()[0]
	switch e.rand.IntN(8) {
	case 0:
		w.profile = cluster.Profiles()[1]
	case 1, 2:
		w.profile = cluster.Profiles()[2]
	}
	w.pauseFirst = e.chance(3)
	if w.logSize = localSize; opt.Groups == 0 && e.chance(2) {
		w.logSize = journal.MinSize
	}
	if opt.Groups > 100 {
		w.logSize = 4 * localSize
	}
	var onShare bool
	if w.server, onShare = newFileServer(w); onShare {
		w.folder = witness.NewFolder("/share", w.id, "0")
	}
	w.checks.w = w
	w.checks.init()
	w.faults = &faults{w: w}
	return w
}

// Sizes of LUNs, in bytes.
const (
	witnessSize = 5 << 20
	volumeSize  = 1 << 30
)

// begin founds the cluster, as `cluster create` and what follows leave it, and
// starts its nodes.
func (w *world) begin() {
	n := w.opt.Nodes
	if n == 0 {
		n = []int{2, 2, 2, 3, 3, 3, 4, 5}[w.e.rand.IntN(8)]
	}
	for range 1 + w.e.rand.IntN(2) {
		w.nets = append(w.nets, newNetwork(w))
	}
	w.witness = w.addLUN("Q", witnessSize)
	volumes := 1 + w.e.rand.IntN(2)
	if w.newest() {
		volumes = 2
	}
	for i := range volumes {
		w.volumes = append(w.volumes, w.addLUN(fmt.Sprintf("V%d", i+1), volumeSize))
	}
	for i := range n {
		w.nodes = append(w.nodes, newNode(w, uint64(i+1)))
		if w.newest() {
			w.nodes[i].starts = cluster.Format
		}
	}
	w.locate()
	w.format()
	snap := w.found()
	for _, x := range w.nodes {
		x.enrol(snap)
		x.powerOn()
	}
	w.admin = newAdmin(w)
	w.admin.begin()
	w.faults.begin()
}

// newest tells whether the cluster begins with the newest format, for what there is in
// that alone.
func (w *world) newest() bool { return w.opt.Theme == "storage" }

// locate puts the nodes into sites, where there are enough and the seed will have it.
func (w *world) locate() {
	sites := w.opt.Sites
	if drawn := w.e.chance(2); sites == 0 && (drawn && len(w.nodes) > 2 || w.opt.Theme == "sites") {
		sites = 2 + w.e.rand.IntN(2)
	}
	if sites == 0 {
		return
	}
	for i, n := range w.nodes {
		n.site = string(rune('a' + i%sites))
	}
}

// format makes the witness's LUN what it is, and the folder on the share, where the
// cluster begins with one.
func (w *world) format() {
	p := &process{e: w.e, name: "setup"}
	p.spawn(func() {
		x, err := w.witness.open(w.nodes[0], p, "format")
		if err == nil {
			err = witness.Format(context.Background(), x, w.id, 0, false)
		}
		if err == nil && w.folder != "" {
			err = w.nodes[0].share(p, w.folder).Format(context.Background(), 0)
		}
		if err != nil {
			panic(err)
		}
	})
	w.e.run(time.Second)
}

func (w *world) addLUN(name string, size int64) *lun {
	l := newLUN(w, name, size)
	w.luns[l.table.Info().ID] = l
	return l
}

// travel is how long a command of the SAN or its answer is under way.
func (w *world) travel() time.Duration { return w.e.between(40*time.Microsecond, 150*time.Microsecond) }

// landing is how long a write is under way at the target: late, now and then, but not
// while the world is calm.
func (w *world) landing(l *lun) time.Duration {
	often, most := 40, 1500*time.Millisecond
	if l == w.witness {
		often, most = 500, 900*time.Millisecond
	}
	if l.lingers {
		often, most = 2, 5*time.Second
	}
	if w.e.chance(often) && !w.faults.calmed {
		w.done.LateWrites++
		return w.e.between(time.Millisecond, most)
	}
	return w.e.between(50*time.Microsecond, 300*time.Microsecond)
}

func (w *world) node(id uint64) *node {
	if id-1 < uint64(len(w.nodes)) && w.nodes[id-1].id == id {
		return w.nodes[id-1]
	}
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	return nil
}

// apply is one command at the founding.
func mustApply(d *cluster.Database, c *pb.Command) {
	if res, err := d.Apply(c, 1); err != nil || res.Code != pb.Code_CODE_OK {
		panic(fmt.Sprintf("founding: %v %v", res, err))
	}
}

func encode(c *pb.Command) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
	if err != nil {
		panic(err)
	}
	return b
}

// Text is the story in one string.
func (r Result) Text() string { return strings.Join(r.Story, "\n") + "\n" }
