package validate

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"quorate/cluster/api/apipb"
	"quorate/migration"
)

const (
	clockWarning = time.Second
	clockFailed  = 10 * time.Second
	// clockReadings is how often a clock is read; the reading with the
	// shortest round trip counts.
	clockReadings = 3
)

// describe asks every node who it is, and leaves out those that do not answer.
func (r *run) describe(ctx context.Context, members []Member) {
	r.begin("asking %d nodes what they are", len(members))
	var wg sync.WaitGroup
	nodes, faults := make([]*node, len(members)), make([]error, len(members))
	for i, m := range members {
		wg.Go(func() { nodes[i], faults[i] = r.describeOne(ctx, m) })
	}
	wg.Wait()
	for i, m := range members {
		c := &apipb.Check{Category: System, Name: "Node answers", Subject: m.Name, Result: Passed}
		if err := faults[i]; err != nil {
			c.Result, c.Text = Failed, fmt.Sprintf("%s does not answer: %s; the checks go on without it", m.Name, oneLine(err))
			c.Advice = "See that clusterd runs there (systemctl status quorate-clusterd) and that its API port is reached from here."
		} else {
			d := nodes[i].desc
			c.Text = fmt.Sprintf("%s, clusterd %s, %s, %d processors, %d MiB", d.Name, d.Version, d.Os, d.Cpus, d.MemoryMib)
			r.nodes = append(r.nodes, nodes[i])
		}
		r.add(c)
	}
}

func (r *run) describeOne(ctx context.Context, m Member) (*node, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	n := &node{Member: m, luns: map[string]*apipb.Lun{}}
	for i := range clockReadings {
		began := r.opt.Now()
		d, err := m.Node.Describe(ctx)
		ended := r.opt.Now()
		if err != nil && i > 0 {
			break // what it is, is known
		}
		if err != nil {
			return nil, err
		}
		half := ended.Sub(began) / 2
		if i == 0 || half < n.blur {
			n.ahead, n.blur = time.UnixMilli(d.ClockMs).Sub(began.Add(half)), half
		}
		n.desc = d
	}
	if n.desc.Name != "" {
		n.Name = n.desc.Name
	}
	return n, nil
}

func (r *run) system() {
	r.begin("comparing the nodes")
	r.checkNames()
	r.checkMembership()
	r.checkClocks()
	r.checkVersions()
	r.checkProcessors()
	r.checkModels()
	r.checkAccelerators()
}

func (r *run) checkNames() {
	seen, faults := map[string]bool{}, []string{}
	for _, n := range r.nodes {
		if seen[n.Name] {
			faults = append(faults, fmt.Sprintf("two nodes are named %s", n.Name))
		}
		seen[n.Name] = true
	}
	c := &apipb.Check{Category: System, Name: "Names", Subject: r.names(), Advice: "Give each server a host name of its own, and name each once."}
	c.Result, c.Text = grade(Failed, faults, "every node has a name of its own")
	r.add(c)
}

// checkMembership finds nodes of different clusters, or of one and none.
func (r *run) checkMembership() {
	var in []string
	ids := map[string]bool{}
	for _, n := range r.nodes {
		ids[n.desc.ClusterId] = true
		if n.desc.Joined {
			in = append(in, fmt.Sprintf("%s is a node of cluster %s", n.Name, n.desc.ClusterName))
		} else {
			in = append(in, n.Name+" is in no cluster")
		}
	}
	c := &apipb.Check{
		Category: System, Name: "Membership", Subject: r.names(), Result: Passed, Text: "all nodes are in the same cluster, or in none",
		Advice: "Validate the nodes of one cluster together with those to be added to it; a node of another cluster must leave that one first.",
	}
	if len(ids) > 1 {
		c.Result, c.Text = Warning, strings.Join(in, "; ")
		delete(ids, "")
		if len(ids) > 1 {
			c.Result = Failed
		}
	}
	r.add(c)
}

// checkClocks compares the clocks, and counts only what is certain: the round
// trips blur the difference.
func (r *run) checkClocks() {
	c := &apipb.Check{
		Category: System, Name: "Clocks", Subject: r.names(), Result: Passed,
		Advice: "Set up time synchronisation on every node (chrony or systemd-timesyncd, one and the same source). Certificates and logs go by the clock.",
	}
	if len(r.nodes) < 2 {
		c.Result, c.Text = Skipped, "one node has nothing to be compared with"
		r.add(c)
		return
	}
	slow, fast := r.nodes[0], r.nodes[0]
	for _, n := range r.nodes {
		if n.ahead < slow.ahead {
			slow = n
		}
		if n.ahead > fast.ahead {
			fast = n
		}
	}
	apart, blur := fast.ahead-slow.ahead, fast.blur+slow.blur
	c.Text = fmt.Sprintf("the clocks are %v apart, give or take %v", round(apart), round(blur))
	if apart-blur > clockWarning {
		c.Result = Warning
		c.Text = fmt.Sprintf("the clock of %s is %v ahead of that of %s, give or take %v", fast.Name, round(apart), slow.Name, round(blur))
	}
	if apart-blur > clockFailed {
		c.Result = Failed
	}
	r.add(c)
}

func round(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(100 * time.Millisecond)
	}
	return d.Round(time.Millisecond)
}

// groups lists which nodes have which value, or nil where all have the same.
func (r *run) groups(value func(*apipb.NodeDescription) string) []string {
	by := map[string][]string{}
	var order []string
	for _, n := range r.nodes {
		v := value(n.desc)
		if v == "" {
			v = "unknown"
		}
		if by[v] == nil {
			order = append(order, v)
		}
		by[v] = append(by[v], n.Name)
	}
	if len(order) < 2 {
		return nil
	}
	var out []string
	for _, v := range order {
		out = append(out, fmt.Sprintf("%s: %s", strings.Join(by[v], ", "), v))
	}
	return out
}

// same adds a check that a value is the same on all nodes.
func (r *run) same(name, result, advice string, value func(*apipb.NodeDescription) string) {
	c := &apipb.Check{Category: System, Name: name, Subject: r.names(), Advice: advice}
	fine := value(r.nodes[0].desc)
	if fine == "" {
		fine = "unknown"
	}
	c.Result, c.Text = grade(result, r.groups(value), fine)
	r.add(c)
}

func (r *run) checkVersions() {
	r.same("Versions", Warning, "Bring every node to the same version of Quorate; differing versions are for the time of an upgrade only.",
		func(d *apipb.NodeDescription) string { return d.Version })
	r.same("QEMU versions", Warning, "Install the same QEMU on every node: a machine may not move from a newer one to an older one.",
		func(d *apipb.NodeDescription) string { return d.QemuVersion })
}

func (r *run) checkProcessors() {
	emulated := slices.ContainsFunc(r.nodes, func(n *node) bool { return n.desc.Accelerator == "tcg" })
	result := Failed
	if emulated {
		result = Warning // the processor that machines see is made in software
	}
	r.same("Processor vendor", result, "Live migration needs processors of one vendor. Between these nodes machines can be restarted, not moved while they run.",
		func(d *apipb.NodeDescription) string { return d.CpuVendor })
	r.same("Processor family and model", Warning, "Give machines a processor model that all nodes have, or live migration between these nodes is refused.",
		func(d *apipb.NodeDescription) string {
			return strings.TrimSpace(fmt.Sprintf("%s, %s", d.CpuFamily, d.CpuModel))
		})
}

// checkModels looks for the processor model that all nodes can give to machines, and
// whether they can give the cluster's.
func (r *run) checkModels() {
	c := &apipb.Check{Category: System, Name: "Processor model", Subject: r.names(), Result: Passed}
	var nodes []migration.Processor
	set := ""
	for _, n := range r.nodes {
		p := migration.Processor{Node: n.Name, Vendor: n.desc.CpuVendor, KVM: n.desc.Accelerator == "kvm", Models: map[string][]string{}}
		for _, m := range n.desc.CpuModels {
			p.Models[m.Name] = m.Missing
		}
		nodes = append(nodes, p)
		set = cmp.Or(set, n.desc.ClusterCpuModel)
	}
	lacking := migration.Lacking(cmp.Or(set, migration.DefaultModel), nodes)
	switch best, err := migration.Baseline(nodes); {
	case len(lacking) > 0 && set != "":
		c.Result, c.Text = Warning, fmt.Sprintf("machines of the cluster get the model %s: %s", set, strings.Join(lacking, "; "))
		c.Advice = "Machines that run with it cannot move to such a node. Set one that all nodes have, by `clusterctl cluster cpu set auto`, and start the machines anew."
	case err != nil:
		c.Result, c.Text = Warning, err.Error()
		c.Advice = "Between these nodes machines can be restarted, and not all be moved while they run."
	case set != "" && set != best:
		c.Text = fmt.Sprintf("every node can give machines the cluster's, %s, and %s", set, best)
	default:
		c.Text = "every node can give machines " + best
	}
	r.add(c)
}

func (r *run) checkAccelerators() {
	for _, n := range r.nodes {
		c := &apipb.Check{Category: System, Name: "Virtualisation", Subject: n.Name}
		switch n.desc.Accelerator {
		case "kvm":
			c.Result, c.Text = Passed, "KVM works"
		case "tcg":
			c.Result, c.Text = Warning, "machines run emulated (TCG), many times slower: "+n.desc.AcceleratorNote
			c.Advice = "Switch virtualisation on in the firmware (VT-x, AMD-V) and load the module kvm_intel or kvm_amd."
		default:
			c.Result, c.Text = Failed, "machines cannot run: "+n.desc.AcceleratorNote
			c.Advice = "Install qemu-system-x86."
		}
		r.add(c)
	}
}
