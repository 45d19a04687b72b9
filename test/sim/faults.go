package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// faults are what goes wrong in a run. The plan is made at its beginning, from a
// random source of its own: leaving one out changes no other.
type faults struct {
	w    *world
	plan []fault
	// cuts counts what cuts each link of each network; the same for other
	// things that several faults may do at once.
	undo map[int]func() // by number: what ends a fault that lasts
	// calmed is set from the end of a storm until it is judged.
	calmed bool
	// struck is set while there is a disaster.
	struck bool
	// armed are the faults that wait for their moment, by number.
	armed map[moment][]int
}

// fault is one of them.
type fault struct {
	at   time.Duration
	long time.Duration
	kind kind
	a, b int // which node, network or LUN
}

// kind is a sort of fault: how long it lasts at most, and the moment at which it
// strikes, where it does not strike at once.
type kind struct {
	name   string
	long   time.Duration
	moment moment
}

// kinds are all faults.
var kinds = []kind{
	{"clusterd crashes", 4 * time.Second, ""},
	{"clusterd restarts", 100 * time.Millisecond, ""},
	{"noded crashes", 900 * time.Millisecond, ""},
	{"clusterd hangs", 12 * time.Second, ""},
	{"noded hangs", 6 * time.Second, ""},
	{"node hangs", 15 * time.Second, ""},
	{"node hangs, and wakes cut off", 15 * time.Second, ""},
	{"power fails", 30 * time.Second, ""},
	{"power fails everywhere", 10 * time.Second, ""},
	{"node is cut off", 20 * time.Second, ""},
	{"node is not heard", 15 * time.Second, ""},
	{"one way is cut", 15 * time.Second, ""},
	{"nodes are split", 25 * time.Second, ""},
	{"network is slow", 10 * time.Second, ""},
	{"network loses", 15 * time.Second, ""},
	{"network fails", 15 * time.Second, ""},
	{"path to a LUN is lost", 15 * time.Second, ""},
	{"SAN fails", 12 * time.Second, ""},
	{"LUN is slow", 10 * time.Second, ""},
	{"LUN aborts commands", 2 * time.Second, ""},
	{"writes linger", 10 * time.Second, ""},
	{"target restarts", 0, ""},
	{"target loses power", 0, ""},
	{"path to the share is lost", 30 * time.Second, ""},
	{"node is cut off, from the share too", 30 * time.Second, ""},
	{"file server fails", 15 * time.Second, ""},
	{"file server restarts", 2 * time.Second, ""},
	{"file server loses power", 8 * time.Second, ""},
	{"file server is slow", 10 * time.Second, ""},
	{"disaster", 60 * time.Second, ""},
	{"disk is slow", 10 * time.Second, ""},
	{"disk fails", 10 * time.Second, ""},
	{"disk is full", 20 * time.Second, ""},
	{"site fails", 30 * time.Second, ""},
	{"site is cut off", 20 * time.Second, ""},
	{"wall clock jumps", 0, ""},
	{"machines do not start", 40 * time.Second, ""},
	{"machines start slowly", 40 * time.Second, ""},
	{"leader is not heard by one, and others restart", 12 * time.Second, ""},
	{"QEMU crashes", 0, ""},
	{"QEMU hangs", 8 * time.Second, ""},
	{"power fails", 20 * time.Second, whileFlushing},
	{"power fails", 20 * time.Second, whileCompacting},
	{"power fails", 10 * time.Second, afterAcknowledging},
	{"clusterd restarts", 100 * time.Millisecond, afterAcknowledging},
	{"node hangs, and wakes cut off", 15 * time.Second, afterTakeover},
	{"node hangs", 15 * time.Second, afterTakeover},
	{"clusterd restarts", 100 * time.Millisecond, afterTakeover},
	{"clusterd hangs", 12 * time.Second, atSwitch},
	{"power fails", 20 * time.Second, atSwitch},
	{"node is not heard", 12 * time.Second, atSwitch},
	{"move is cancelled", 0, whenLoaded},
	{"clusterd restarts", 100 * time.Millisecond, whenLoaded},
	{"clusterd restarts", 100 * time.Millisecond, whenSaved},
	{"clusterd restarts", 100 * time.Millisecond, whenRestored},
	{"clusterd hangs", 12 * time.Second, whenSaved},
	{"clusterd hangs", 12 * time.Second, whenRestored},
	{"power fails", 10 * time.Second, whenSaved},
	{"power fails", 10 * time.Second, whenRestored},
	{"node is cut off", 15 * time.Second, whenRestored},
}

// Storms and calms alternate.
const (
	stormMin, stormMax = 20 * time.Second, 120 * time.Second
	faultEvery         = 5 * time.Second // on average, in a storm
)

func (f *faults) begin() {
	f.undo, f.armed = map[int]func(){}, map[moment][]int{}
	if f.w.opt.Losses > 0 || f.w.opt.LostSite != "" {
		f.losses()
		return
	}
	r := rand.New(rand.NewPCG(f.w.opt.Seed, 0xfa17))
	between := func(lo, hi time.Duration) time.Duration { return lo + time.Duration(r.Int64N(int64(hi-lo)+1)) }
	at := 30 * time.Second
	for at+stormMax+settleTime < f.w.opt.Length {
		theme := pickTheme(r, f.w.opt.Theme)
		f.w.e.after(at, nil, func() { f.w.admin.theme = theme })
		end := at + between(stormMin, stormMax)
		every := between(faultEvery/5, 2*faultEvery)
		for at += between(0, 2*every); at < end; at += between(0, 2*every) {
			x := fault{at: at, kind: theme.fault(r), a: r.IntN(1 << 20), b: r.IntN(1 << 20)}
			if x.kind.long > 0 {
				x.long = between(x.kind.long/100, x.kind.long)
				if r.IntN(3) == 0 {
					x.long /= 10
				}
			}
			f.plan = append(f.plan, x)
		}
		f.w.e.after(end, nil, f.calm)
		at = end + settleTime
		f.w.e.after(at-time.Second, nil, f.w.checks.liveness.judge)
	}
	for i, x := range f.plan {
		if !f.w.opt.Skip[i] {
			f.w.e.after(x.at, nil, func() { f.due(i, x) })
		}
	}
}

// losses is the plan of Options.Losses and LostSite.
func (f *faults) losses() {
	third := f.w.opt.Length / 3
	lost := slices.Clone(f.w.nodes[:f.w.opt.Losses])
	for _, n := range f.w.nodes {
		if n.site != "" && n.site == f.w.opt.LostSite {
			lost = append(lost, n)
		}
	}
	f.w.e.after(third, nil, func() {
		for _, n := range lost {
			n.powerOff()
		}
	})
	f.w.e.after(2*third, nil, func() {
		f.calmed, f.w.admin.pauses = true, true
		for _, n := range lost {
			n.powerOn()
		}
	})
	f.w.e.after(3*third-time.Second, nil, f.w.checks.liveness.judge)
}

// calm ends all faults, and has the administrators rest after a while.
func (f *faults) calm() {
	f.calmed = true
	f.w.tell("world", "all faults are mended")
	clear(f.armed)
	for _, i := range sorted(f.undo) {
		f.mend(i)
	}
	for _, n := range f.w.nodes {
		n.powerOn()
		n.startNoded()
		n.startClusterd()
	}
	f.w.e.after(settleTime/4, nil, func() { f.w.admin.pauses = true })
	f.w.e.after(settleTime, nil, func() { f.calmed, f.w.admin.pauses = false, false })
}

func (f *faults) mend(i int) {
	if u := f.undo[i]; u != nil {
		delete(f.undo, i)
		u()
	}
}

// due lets a fault happen, or arms it for its moment.
func (f *faults) due(i int, x fault) {
	if m := x.kind.moment; m != "" {
		f.armed[m] = append(f.armed[m], i)
		return
	}
	f.strike(i, x, f.w.nodes[x.a%len(f.w.nodes)])
}

// strike lets a fault happen to a node.
func (f *faults) strike(i int, x fault, n *node) {
	what, undo := f.do(n, x)
	if what == "" {
		return
	}
	if x.kind.moment != "" {
		what += " " + string(x.kind.moment)
	}
	f.w.tell("FAULT", "%d: %s (%v)", i, what, x.long.Round(time.Millisecond))
	if undo != nil {
		f.undo[i] = undo
		f.w.e.after(x.long, nil, func() { f.mend(i) })
	}
}

// do makes the fault and returns what it is, and what ends it.
func (f *faults) do(n *node, x fault) (string, func()) {
	w := f.w
	switch x.kind.name {
	case "clusterd crashes", "clusterd restarts":
		if n.frozen {
			return "", nil
		}
		n.killClusterd()
		return "clusterd of " + n.name + " crashes", n.startClusterd
	case "noded crashes":
		if n.frozen {
			return "", nil
		}
		n.killNoded()
		return "noded of " + n.name + " crashes", n.startNoded
	case "clusterd hangs":
		if n.clusterd == nil || n.frozen {
			return "", nil
		}
		return "clusterd of " + n.name + " hangs", stop(n.clusterd.p, n)
	case "noded hangs":
		if n.noded == nil || n.frozen {
			return "", nil
		}
		return "noded of " + n.name + " hangs", stop(n.noded.p, n)
	case "node hangs":
		if n.frozen || !n.powered {
			return "", nil
		}
		n.freeze()
		return n.name + " hangs", func() {
			n.thaw()
			w.e.after(wakeWithin, nil, func() { w.checks.machine.woken(n) })
		}
	case "node hangs, and wakes cut off":
		return f.hangCutOff(n, x)
	case "power fails":
		n.powerOff()
		return "the power of " + n.name + " fails", n.powerOn
	case "site fails", "site is cut off":
		return f.site(n, x)
	case "disaster":
		return f.disaster(x)
	case "power fails everywhere":
		for _, n := range w.nodes {
			n.powerOff()
		}
		return "the power fails everywhere", func() {
			for _, n := range w.nodes {
				w.e.after(w.e.between(0, 5*time.Second), nil, n.powerOn)
			}
		}
	case "wall clock jumps":
		n.wallOff += time.Duration(x.b%200000-100000) * time.Millisecond
		return "the clock of " + n.name + " jumps", nil
	case "disk is slow":
		n.disk.slow = time.Duration(x.b%300) * time.Millisecond
		return fmt.Sprintf("the disk of %s is slow by %v", n.name, n.disk.slow), func() { n.disk.slow = 0 }
	case "disk is full":
		n.disk.full = true
		return "the disk of " + n.name + " is full", func() { n.disk.full = false }
	case "disk fails":
		n.disk.broken = true
		return "the disk of " + n.name + " fails", func() { n.disk.broken = false }
	case "machines start slowly":
		n.slowStart = time.Duration(x.b%9000) * time.Millisecond
		return fmt.Sprintf("machines start slowly on %s, by %v", n.name, n.slowStart), func() { n.slowStart = 0 }
	case "machines do not start":
		n.broken = true
		return "machines do not start on " + n.name, func() { n.broken = false }
	case "leader is not heard by one, and others restart":
		return f.unheard(x)
	case "QEMU crashes", "QEMU hangs":
		return f.qemu(n, x)
	case "move is cancelled":
		return w.admin.cancelMoves(n), nil
	case "LUN aborts commands", "writes linger", "path to a LUN is lost", "SAN fails", "LUN is slow", "target restarts", "target loses power":
		return f.san(n, x)
	case "path to the share is lost", "node is cut off, from the share too", "file server fails", "file server restarts", "file server loses power", "file server is slow":
		return f.share(n, x)
	}
	return f.network(n, x)
}

// share is what goes wrong with the file server, and the ways to it.
func (f *faults) share(n *node, x fault) (string, func()) {
	s := f.w.server
	switch x.kind.name {
	case "path to the share is lost":
		n.shareLost = true
		return n.name + " loses its path to the share", func() { n.shareLost = false }
	case "node is cut off, from the share too":
		n.shareLost = true
		_, heal := f.network(n, fault{kind: kind{name: "node is cut off"}, b: 1})
		return n.name + " is cut off, from the share too", func() {
			heal()
			f.w.e.after(time.Duration(x.b%3000)*time.Millisecond, nil, func() { n.shareLost = false })
		}
	case "file server is slow":
		s.slow = time.Duration(x.b%150) * time.Millisecond
		return fmt.Sprintf("the file server is slow by %v", s.slow), func() { s.slow = 0 }
	}
	s.down = true
	return "the " + x.kind.name, func() {
		s.down = false
		if x.kind.name != "file server fails" {
			s.restart(x.kind.name == "file server loses power")
		}
	}
}

// site has the power of all nodes of a site fail, or cuts them off from the others.
func (f *faults) site(n *node, x fault) (string, func()) {
	if n.site == "" {
		return "", nil
	}
	w := f.w
	if x.kind.name == "site fails" {
		for _, o := range w.nodes {
			if o.site == n.site {
				o.powerOff()
			}
		}
		return "site " + n.site + " fails", func() {
			for _, o := range w.nodes {
				if o.site == n.site {
					w.e.after(w.e.between(0, 5*time.Second), nil, o.powerOn)
				}
			}
		}
	}
	for _, t := range w.nets {
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if (a.site == n.site) != (b.site == n.site) {
					t.cut[[2]uint64{a.id, b.id}] = true
				}
			}
		}
	}
	return "site " + n.site + " is cut off", func() {
		for _, t := range w.nets {
			clear(t.cut)
		}
	}
}

// hangCutOff has a node hang, and reach nobody but the SAN for a while after it has
// woken: what it does then it does by what it knew.
func (f *faults) hangCutOff(n *node, x fault) (string, func()) {
	if n.frozen || !n.powered {
		return "", nil
	}
	n.freeze()
	_, heal := f.network(n, fault{kind: kind{name: "node is cut off"}, b: 1})
	return n.name + " hangs, and wakes cut off", func() {
		n.thaw()
		f.w.e.after(wakeWithin, nil, func() { f.w.checks.machine.woken(n) })
		f.w.e.after(time.Duration(x.b%5000)*time.Millisecond, nil, heal)
	}
}

// unheard cuts the way from the leader to one other node, which so comes to want to
// lead itself, and restarts others, which follow the leader, one by one.
func (f *faults) unheard(x fault) (string, func()) {
	w := f.w
	i := slices.IndexFunc(w.nodes, func(n *node) bool { return n.clusterd != nil && n.clusterd.leads })
	if i < 0 || len(w.nodes) < 2 {
		return "", nil
	}
	leader, deaf := w.nodes[i], w.nodes[(i+1+x.a%(len(w.nodes)-1))%len(w.nodes)]
	for _, t := range w.nets {
		t.cut[[2]uint64{leader.id, deaf.id}] = true
	}
	over := false
	var next func()
	next = func() {
		n := w.nodes[w.e.rand.IntN(len(w.nodes))]
		if over || n.frozen {
			return
		}
		if n != leader && n != deaf {
			w.tell("FAULT", "clusterd of %s restarts", n.name)
			n.killClusterd()
			w.e.after(5*time.Millisecond, nil, n.startClusterd)
		}
		w.e.after(w.e.between(50*time.Millisecond, 400*time.Millisecond), nil, next)
	}
	w.e.after(w.profile.Election, nil, next)
	return fmt.Sprintf("%s does not hear %s, which leads, and others restart", deaf.name, leader.name), func() {
		over = true
		for _, t := range w.nets {
			clear(t.cut)
		}
	}
}

// stop has one process stand still.
func stop(p *process, n *node) func() {
	p.hold()
	return func() {
		if !n.frozen {
			p.cont()
			n.w.e.after(wakeWithin, nil, func() { n.w.checks.machine.woken(n) })
		}
	}
}

func (f *faults) qemu(n *node, x fault) (string, func()) {
	if len(n.machines) == 0 {
		return "", nil
	}
	m := n.machines[x.b%len(n.machines)]
	if x.kind.name == "QEMU crashes" {
		m.quit()
		return fmt.Sprintf("QEMU of %s on %s crashes", m.group, n.name), nil
	}
	return fmt.Sprintf("QEMU of %s on %s hangs", m.group, n.name), stop(m.p, n)
}

func (f *faults) san(n *node, x fault) (string, func()) {
	all := append([]*lun{f.w.witness}, f.w.volumes...)
	l := all[x.b%len(all)]
	switch x.kind.name {
	case "path to a LUN is lost":
		lost := []*lun{l}
		if x.b%3 == 0 {
			lost = all
		}
		for _, l := range lost {
			n.pathLost[l] = true
		}
		return fmt.Sprintf("%s loses its path to %d LUNs, %s among them", n.name, len(lost), lost[0].name), func() {
			for _, l := range lost {
				delete(n.pathLost, l)
			}
		}
	case "SAN fails":
		for _, l := range all {
			l.down = true
		}
		return "the SAN fails", func() {
			for _, l := range all {
				l.down = false
			}
		}
	case "LUN is slow":
		l.slow = time.Duration(x.b%150) * time.Millisecond
		return fmt.Sprintf("%s is slow by %v", l.name, l.slow), func() { l.slow = 0 }
	}
	if x.kind.name == "LUN aborts commands" {
		l.aborts = 2 + x.b%3
		return fmt.Sprintf("%s aborts one command in %d", l.name, l.aborts), func() { l.aborts = 0 }
	}
	if x.kind.name == "writes linger" {
		l.lingers = true
		return "writes to " + l.name + " linger", func() { l.lingers = false }
	}
	// One target has all LUNs.
	for _, l := range all {
		l.restart(x.kind.name == "target loses power")
	}
	return "the " + x.kind.name, nil
}

func (f *faults) network(n *node, x fault) (string, func()) {
	w := f.w
	nets := w.nets
	if x.b%3 == 0 {
		nets = nets[:1]
	}
	cut := func(from, to uint64) {
		for _, t := range nets {
			t.cut[[2]uint64{from, to}] = true
		}
	}
	heal := func() {
		for _, t := range nets {
			clear(t.cut)
		}
	}
	switch x.kind.name {
	case "node is cut off", "node is not heard":
		for _, o := range w.nodes {
			cut(n.id, o.id)
			if x.kind.name == "node is cut off" {
				cut(o.id, n.id)
			}
		}
		return fmt.Sprintf("%s: %s, on %d networks", x.kind.name, n.name, len(nets)), heal
	case "one way is cut":
		o := w.nodes[x.b%len(w.nodes)]
		cut(n.id, o.id)
		return fmt.Sprintf("%s does not hear %s, on %d networks", o.name, n.name, len(nets)), heal
	case "nodes are split":
		for _, a := range w.nodes {
			for _, b := range w.nodes {
				if x.b>>a.id&1 != x.b>>b.id&1 {
					cut(a.id, b.id)
				}
			}
		}
		return fmt.Sprintf("the nodes are split, on %d networks", len(nets)), heal
	case "network is slow":
		for _, t := range nets {
			for _, o := range w.nodes {
				t.slow[[2]uint64{n.id, o.id}] = time.Duration(x.b%400) * time.Millisecond
			}
		}
		return fmt.Sprintf("%s sends slowly, by %d ms", n.name, x.b%400), func() {
			for _, t := range nets {
				clear(t.slow)
			}
		}
	case "network loses":
		for _, t := range nets {
			t.loss = 2 + x.b%20
		}
		return fmt.Sprintf("one message in %d is lost", 2+x.b%20), func() {
			for _, t := range nets {
				t.loss = 0
			}
		}
	}
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if a != b {
				nets[0].cut[[2]uint64{a.id, b.id}] = true
			}
		}
	}
	return "the first network fails", func() { clear(nets[0].cut) }
}
