package cluster

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	pb "quorate/cluster/clusterpb"
)

var updateScripts = flag.Bool("update-scripts", false, "write what the scripts in testdata/policy say into them")

// TestPolicies plays the scripts in testdata/policy: how things stand, what happens, and
// below the line the cluster's log that comes of it, which reads as a story. The leader's
// controller and the nodes' agents are the real ones; what they touch is a script's.
func TestPolicies(t *testing.T) {
	files, err := filepath.Glob("testdata/policy/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script, want, _ := strings.Cut(string(text), "----\n")
			p := newPlay(t)
			for _, line := range strings.Split(script, "\n") {
				if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
					p.line(line)
				}
			}
			p.says("at the end")
			p.show()
			got := p.log.String()
			switch {
			case *updateScripts:
				if err := os.WriteFile(file, []byte(script+"----\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			case got != want:
				t.Errorf("-update-scripts writes what it says now, which is\n%s", got)
			}
		})
	}
}

// play is a cluster that a script is played on.
type play struct {
	*db
	c       *Controller
	began   time.Time
	now     time.Time
	log     strings.Builder
	event   uint64
	running map[string]uint64    // on which node a machine's process is
	fails   map[string]bool      // "machine@node": it does not start there
	off     map[uint64]time.Time // nodes without power, and since when
	set     bool                 // what the script begins with is done
}

func newPlay(t *testing.T) *play {
	return &play{
		db: &db{t: t}, began: time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC), running: map[string]uint64{}, fails: map[string]bool{}, off: map[uint64]time.Time{},
	}
}

func (p *play) says(format string, a ...any) {
	fmt.Fprintf(&p.log, "%6s  %s\n", p.now.Sub(p.began).Round(time.Second), fmt.Sprintf(format, a...))
}

// line plays one line of a script.
func (p *play) line(line string) {
	p.t.Helper()
	word := strings.Fields(line)
	if p.Database == nil {
		p.raise(word)
		return
	}
	switch word[0] {
	case "vm":
		p.vm(word)
		if p.set {
			p.says("> %s", line)
		}
		return
	case "wait":
		d, err := time.ParseDuration(word[1])
		if err != nil {
			p.t.Fatal(err)
		}
		p.pass(d)
		return
	}
	if !p.set { // what is there when it begins has settled
		p.work()
		p.work()
		p.set, p.event = true, p.State().NextEvent
	}
	p.says("> %s", line)
	switch word[0] {
	case "kill":
		p.off[p.node(word[1])] = p.now
		for name, id := range p.running {
			if id == p.node(word[1]) {
				delete(p.running, name)
			}
		}
	case "on":
		delete(p.off, p.node(word[1]))
	case "fails":
		p.fails[word[1]] = true
	case "heals":
		delete(p.fails, word[1])
	case "crash":
		delete(p.running, word[1])
	case "plan":
		p.plan(word[1:])
	case "explain":
		p.says("%s", ExplainGroup(p.State(), p.State().Groups[word[1]], p.now).Explain())
	default:
		if res := p.do(p.command(word)); res.Code != pb.Code_CODE_OK {
			p.says("refused: %s", res.Message)
		}
		p.events()
	}
}

func (p *play) do(c *pb.Command) *pb.Result {
	c.AtMs = p.now.UnixMilli()
	return p.db.do(c)
}

// command is what an administrator commits by a line.
func (p *play) command(word []string) *pb.Command {
	p.t.Helper()
	switch name := append(word, "")[1]; word[0] {
	case "start":
		return desire(name, pb.Desire_DESIRE_STARTED)
	case "stop":
		return desire(name, pb.Desire_DESIRE_STOPPED)
	case "migrate":
		return &pb.Command{Kind: &pb.Command_MigrationStart{MigrationStart: &pb.MigrationStart{Group: name, To: p.node(word[2])}}}
	case "move":
		return &pb.Command{Kind: &pb.Command_GroupMove{GroupMove: &pb.GroupMove{Name: name, To: p.node(word[2])}}}
	case "drain":
		force := map[string]pb.DrainForce{"stop": pb.DrainForce_DRAIN_FORCE_STOP, "save": pb.DrainForce_DRAIN_FORCE_SAVE}[word[len(word)-1]]
		return &pb.Command{Kind: &pb.Command_NodeDrain{NodeDrain: &pb.NodeDrain{Node: p.node(name), Force: force}}}
	case "disarm":
		d, err := time.ParseDuration(name)
		if err != nil {
			p.t.Fatal(err)
		}
		return disarmFor(d)
	case "arm":
		return &pb.Command{Kind: &pb.Command_Arm{Arm: &pb.Arm{}}}
	case "resume":
		return &pb.Command{Kind: &pb.Command_NodeResume{NodeResume: &pb.NodeResume{Node: p.node(name), Failback: len(word) > 2}}}
	case "unrule":
		return &pb.Command{Kind: &pb.Command_AffinityRemove{AffinityRemove: &pb.AffinityRemove{Name: name}}}
	case "unadd":
		return &pb.Command{Kind: &pb.Command_GroupRemove{GroupRemove: &pb.GroupRemove{Name: name}}}
	case "rule":
		a := &pb.Affinity{Name: name, Groups: word[3:], Hard: strings.HasSuffix(word[2], "!")}
		switch strings.TrimSuffix(word[2], "!") {
		case "apart":
			a.Kind = pb.AffinityKind_AFFINITY_KIND_APART
		case "together":
			a.Kind = pb.AffinityKind_AFFINITY_KIND_TOGETHER
		}
		return &pb.Command{Kind: &pb.Command_AffinitySet{AffinitySet: &pb.AffinitySet{Affinity: a}}}
	case "policy":
		return p.policy(word)
	}
	p.t.Fatalf("the line %q says nothing", word)
	return nil
}

func (p *play) policy(word []string) *pb.Command {
	set := &pb.GroupPolicySet{Name: word[1], Policy: &pb.GroupPolicy{}}
	nodes := func(list string) (out []uint64) {
		for _, n := range strings.FieldsFunc(list, func(r rune) bool { return r == ',' }) {
			out = append(out, p.node(n))
		}
		return out
	}
	number := func(s string) uint32 {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			p.t.Fatal(err)
		}
		return uint32(n)
	}
	for _, w := range word[2:] {
		field, value, _ := strings.Cut(w, "=")
		set.Fields = append(set.Fields, field)
		switch field {
		case "priority":
			set.Policy.Priority = map[string]pb.Priority{"high": 1, "low": 2, "no-auto-start": 3}[value]
		case "preferred":
			set.Policy.Preferred = nodes(value)
		case "possible":
			set.Policy.Possible = nodes(value)
		case "failovers":
			times, period, _ := strings.Cut(value, "/")
			if times == "unlimited" {
				set.Policy.NoFailoverLimit = true
				break
			}
			d, err := time.ParseDuration(period)
			if err != nil {
				p.t.Fatal(err)
			}
			set.Policy.MaxFailovers, set.Policy.FailoverPeriodMs = number(times), d.Milliseconds()
		case "failback":
			from, until, window := strings.Cut(value, "-")
			switch {
			case value == "at-once":
				set.Policy.Failback = pb.Failback_FAILBACK_AT_ONCE
			case window:
				set.Policy.Failback, set.Policy.FailbackFrom, set.Policy.FailbackUntil = pb.Failback_FAILBACK_WINDOW, number(from), number(until)
			}
		}
	}
	return &pb.Command{Kind: &pb.Command_GroupPolicySet{GroupPolicySet: set}}
}

// raise makes the cluster of a line like "cluster s1=8192 s2=8192 at 12:30", with each
// node's memory in MiB.
func (p *play) raise(word []string) {
	p.t.Helper()
	if word[0] != "cluster" {
		p.t.Fatalf("a script begins with its cluster, not with %q", word)
	}
	if i := slices.Index(word, "at"); i > 0 {
		at, err := time.Parse("15:04", word[i+1])
		if err != nil {
			p.t.Fatal(err)
		}
		p.began = time.Date(2026, 11, 2, at.Hour(), at.Minute(), 0, 0, time.UTC)
		word = word[:i]
	}
	p.now, p.c = p.began, NewController(normal)
	for i, w := range word[1:] {
		name, mib, _ := strings.Cut(w, "=")
		memory, err := strconv.ParseUint(mib, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		id := uint64(i + 1)
		if id == 1 {
			p.Database = Found(&pb.Cluster{Id: "c1", Name: "cl", Format: Format}, &pb.Node{Id: 1, Name: name})
		} else {
			p.must(&pb.Command{Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: &pb.Node{Name: name, Facts: &pb.NodeFacts{Format: Format}}}}})
			p.must(&pb.Command{Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: id}}})
		}
		p.must(&pb.Command{Kind: &pb.Command_NodeReport{NodeReport: &pb.NodeReport{Node: id, Facts: &pb.NodeFacts{Format: Format, MemoryMib: memory}}}})
	}
	p.must(&pb.Command{Kind: &pb.Command_DiskAdd{DiskAdd: &pb.DiskAdd{Disk: &pb.Disk{Id: "v", Size: 1 << 40}}}})
	p.must(&pb.Command{Kind: &pb.Command_CsvEnable{CsvEnable: &pb.CsvEnable{Enabled: true}}})
	p.must(&pb.Command{Kind: &pb.Command_VolumeAdd{VolumeAdd: &pb.VolumeAdd{Disk: "v", Coordinator: 1}}})
	p.work()
}

// vm makes a machine, of a line like "vm web 1024 s1", which runs but for "off" behind it.
func (p *play) vm(word []string) {
	memory, err := strconv.ParseUint(word[2], 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	p.must(&pb.Command{Kind: &pb.Command_GroupAdd{GroupAdd: &pb.GroupAdd{Group: &pb.Group{Name: word[1], Type: "vm", Volume: "Volume1", Owner: p.node(word[3]), MemoryMib: memory}}}})
	if len(word) == 4 {
		p.must(desire(word[1], pb.Desire_DESIRE_STARTED))
		p.work()
	}
}

func (p *play) node(name string) uint64 {
	for id, n := range p.State().Nodes {
		if n.Name == name {
			return id
		}
	}
	p.t.Fatalf("there is no node %q", name)
	return 0
}

// pass lets time pass, second by second.
func (p *play) pass(d time.Duration) {
	p.t.Helper()
	for range int(d / time.Second) {
		p.now = p.now.Add(time.Second)
		p.lead()
		p.work()
		if err := p.Holdings().Check(p.State()); err != nil {
			p.t.Fatal(err)
		}
		p.obeyed()
	}
}

// lead has the first node that is up decide.
func (p *play) lead() {
	in := Input{Now: p.now, WallMS: p.now.UnixMilli(), State: p.State(), Holdings: p.Holdings(), Term: 7, LeaderSince: p.began.Add(-time.Hour), Heard: map[uint64]Heard{}, CaughtUp: map[uint64]bool{}, Changing: true}
	for _, id := range slices.Backward(sortedIDs(p.State().Nodes)) {
		if since, off := p.off[id]; !off {
			in.Self, in.Leader = id, id
			in.Heard[id], in.CaughtUp[id] = Heard{Raft: p.now, Renewed: p.now, Granted: p.now}, true
		} else {
			in.Heard[id] = Heard{Raft: since, Renewed: since, Granted: since}
		}
	}
	for _, cmd := range p.c.Step(in).Commands {
		if res := p.do(cmd); res.Code != pb.Code_CODE_OK {
			p.t.Fatalf("%v is refused: %s", cmd, res.Message)
		}
	}
	p.events()
}

func sortedIDs[V any](m map[uint64]V) []uint64 {
	var out []uint64
	for id := range m {
		out = append(out, id)
	}
	slices.Sort(out)
	return out
}

// work has each node that has power act, and does what that comes to.
func (p *play) work() {
	for _, id := range sortedIDs(p.State().Nodes) {
		if _, off := p.off[id]; off {
			continue
		}
		n, v := p.State().Nodes[id], p.State().Volumes["Volume1"]
		l := Local{Node: id, WallMS: p.now.UnixMilli(), Keeper: true, KeeperState: "joined", KeeperEpoch: n.Epoch, Lease: true, Machines: map[string]LocalMachine{}}
		l.Volumes = map[string]LocalVolume{"Volume1": {State: "direct", Epoch: v.Epoch, Coordinating: v.Coordinator == id, Key: Key(KeyTag("c1"), id, n.Epoch), Size: 1 << 40, Free: 1 << 39}}
		for name, at := range p.running {
			if at == id {
				l.Machines[name] = LocalMachine{Running: true}
			}
		}
		for _, a := range p.Act(l) {
			p.act(id, a)
		}
	}
	p.events()
}

func (p *play) act(id uint64, a Action) {
	report := func(name string, state pb.GroupState, detail string) *pb.Result {
		g := p.State().Groups[name]
		return p.do(&pb.Command{Kind: &pb.Command_GroupReport{GroupReport: &pb.GroupReport{Name: name, Status: &pb.GroupStatus{State: state, Node: id, Epoch: g.Epoch, Detail: detail}}}})
	}
	switch a := a.(type) {
	case Report:
		p.do(a.Command)
	case StartMachine:
		if report(a.Group, pb.GroupState_GROUP_STATE_STARTING, "").Code != pb.Code_CODE_OK {
			return
		}
		if p.fails[a.Group+"@"+p.nodeName(id)] {
			report(a.Group, pb.GroupState_GROUP_STATE_FAILED, "its disk is not there")
			return
		}
		p.running[a.Group] = id
	case StopMachine:
		delete(p.running, a.Group)
	case KillMachine:
		delete(p.running, a.Group)
	case FenceDisk:
		p.do(&pb.Command{Kind: &pb.Command_FenceProof{FenceProof: &pb.FenceProof{Node: a.Node, Epoch: a.Epoch, Proof: &pb.Proof{Kind: pb.ProofKind_PROOF_KIND_KEYS_REMOVED, Disk: a.Disk}}}})
	case MoveMachine:
		if p.fails[a.Group+"@"+p.nodeName(a.To)] {
			p.do(&pb.Command{Kind: &pb.Command_MigrationEnd{MigrationEnd: &pb.MigrationEnd{Group: a.Group, Id: a.Migration, Reason: "it cannot load there"}}})
			return
		}
		if p.do(&pb.Command{Kind: &pb.Command_MigrationSwitch{MigrationSwitch: &pb.MigrationSwitch{Group: a.Group, Id: a.Migration, Epoch: a.Epoch}}}).Code == pb.Code_CODE_OK {
			p.running[a.Group] = a.To
		}
	}
}

// obeyed fails where what never may be is so.
func (p *play) obeyed() {
	s := p.State()
	for name, at := range p.running {
		g := s.Groups[name]
		if why := notPossible(g, at); why != "" {
			p.t.Fatalf("%s runs on %s: %s", name, p.nodeName(at), why)
		}
		for _, r := range relationsOf(s, name) {
			for _, other := range r.others {
				if r.rule.Hard && p.running[other.Name] == at {
					p.t.Fatalf("%s and %s run on %s, against %s", name, other.Name, p.nodeName(at), r.rule.Name)
				}
			}
		}
	}
}

// events tells what has happened.
func (p *play) events() {
	for _, e := range p.State().Events {
		if e.Id > p.event && p.set {
			p.event = e.Id
			mark := ""
			if e.Level != Info {
				mark = e.Level + ": "
			}
			p.says("%s%s", mark, e.Text)
		}
	}
}

// show says where everything is.
func (p *play) show() {
	s := p.State()
	for _, name := range sortedKeys(s.Groups) {
		g := s.Groups[name]
		used := ""
		if times, period, _ := FailoverLimit(s, g); len(g.Failovers) > 0 {
			used = fmt.Sprintf(", %d of %d failovers in %v", Failovers(s, g, p.now.UnixMilli()), times, period)
		}
		state := GroupStateOf(g.Status.GetState())
		if g.Status.GetEpoch() != g.Epoch {
			state = "waits"
		}
		if _, off := p.off[g.Owner]; off {
			state = "lost with its node"
		}
		if why := StartHeld(s, g); why != "" && g.Desire == pb.Desire_DESIRE_STARTED && p.running[name] == 0 {
			state += " (" + why + ")"
		}
		fmt.Fprintf(&p.log, "        %s on %s: %s%s\n", name, p.nodeName(g.Owner), state, used)
	}
}

// plan says what the loss of nodes would lead to.
func (p *play) plan(names []string) {
	var lost []uint64
	for _, n := range names {
		lost = append(lost, p.node(n))
	}
	before, err := p.Snapshot()
	if err != nil {
		p.t.Fatal(err)
	}
	plan, err := PlanLoss(p.State(), lost, p.now)
	if err != nil {
		p.says("refused: %v", err)
		return
	}
	if after, err := p.Snapshot(); err != nil || string(after) != string(before) {
		p.t.Fatalf("the plan has changed the database (%v)", err)
	}
	for _, l := range plan {
		to := "nowhere"
		if l.To != 0 {
			to = p.nodeName(l.To)
		}
		off := ""
		if l.Group != "" && !l.Starts {
			off = ", off"
		}
		fmt.Fprintf(&p.log, "        %s%s from %s to %s%s: %s\n", l.Group, l.Volume, p.nodeName(l.From), to, off, l.Why)
	}
}
