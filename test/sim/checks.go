package sim

import (
	"cmp"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/raft/v3/raftpb"
)

// checks are the checkers. Each is called where what it looks at changes, and
// fails the run at once.
type checks struct {
	w         *world
	leader    leaderCheck
	lease     leaseCheck
	log       logCheck
	quorum    quorumCheck
	machine   machineCheck
	volume    volumeCheck
	key       keyCheck
	history   historyCheck
	migration migrationCheck
	liveness  livenessCheck
	format    formatCheck
	address   addressCheck
	epochs    epochsCheck
	force     forceCheck
	save      saveCheck
	storage   storageCheck
	drain     drainCheck
	policy    policyCheck

	acknowledged acknowledgedCheck
}

func (c *checks) init() {
	w := c.w
	c.leader = leaderCheck{w: w, of: map[uint64]string{}, last: map[*voter]uint64{}}
	c.lease = leaseCheck{w: w}
	c.log = logCheck{w: w, entries: map[uint64]logEntry{}, states: map[uint64]logState{}}
	c.quorum = quorumCheck{w: w, votes: map[[2]uint64]uint64{}, elected: map[uint64]elected{}, lived: map[place]uint64{}}
	c.machine = machineCheck{w: w, current: map[inGroup]*machine{}, stints: map[inGroup]uint64{}, unborn: map[uint64]uint64{}}
	c.volume = volumeCheck{w: w, epoch: map[*lun]coordinated{}, gone: map[fencedKey]coordinated{}}
	c.key = keyCheck{w: w, held: map[*nexus]bool{}, removed: map[*nexus]string{}}
	c.history = historyCheck{w: w}
	c.migration = migrationCheck{w: w}
	c.liveness = livenessCheck{w: w}
	c.format = formatCheck{w: w}
	c.address = addressCheck{w: w}
	c.epochs = epochsCheck{w: w, have: map[string]owned{}}
	c.force = forceCheck{w: w, said: map[uint64]said{}}
	c.save = saveCheck{w: w}
	c.drain = drainCheck{w: w, drained: map[[2]uint64]bool{}, volumes: map[inGroup]uint64{}, owners: map[inGroup]uint64{}, seen: map[uint64]bool{}}
	c.policy = policyCheck{w: w, now: map[uint64]policies{}, seen: map[inGroup]policySeen{}, moved: map[inGroup][]int64{}}
	c.storage = storageCheck{w: w, folders: map[string]map[string]*folder{}, written: map[string]int{}}
	c.acknowledged = acknowledgedCheck{w: w, at: map[[2]uint64]uint64{}, acks: map[uint64][]ack{}}
}

// voted is called after each change of a voter's status.
func (c *checks) voted(v *voter) {
	c.leader.seen(v)
	c.quorum.seen(v)
}

// sent is called with each message of a voter.
func (c *checks) sent(by *clusterd, m *raftpb.Message) {
	n := by.n
	c.quorum.sent(by, m)
	c.force.sent(by, m)
	if m.GetType() == raftpb.MsgAppResp && !m.GetReject() {
		c.w.moment(afterAcknowledging, n, 2*time.Millisecond)
	}
}

// landed is called when a write has reached a LUN.
func (c *checks) landed(x *nexus, off int64, p []byte) {
	s := stampOf(p)
	switch {
	case x.l == c.w.witness:
	case s.kind == stampMachine && off >= diskOffset:
		c.volume.landed(x)
		c.machine.landed(x, s)
	case s.kind == stampCoordinator && off == metaOffset:
		c.volume.landed(x)
		c.volume.wrote(x, s)
	}
}

func (c *checks) coordinating(a *attached, epoch uint64, found stamp) {
	c.volume.coordinating(a, epoch, found)
}

func (c *checks) atEnd() {
	c.history.judge()
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func groupName(i int) string { return "vm" + strconv.Itoa(i) }

func groupNumber(name string) uint64 {
	n, _ := strconv.ParseUint(strings.TrimPrefix(name, "vm"), 10, 64)
	return n
}

func stack() string {
	lines := strings.Split(string(debug.Stack()), "\n")
	return strings.Join(lines[:min(len(lines), 60)], "\n")
}
