package migration

import (
	"fmt"
	"slices"
)

// Severity tells what ends a migration from what is worth knowing.
type Severity int

// The severities.
const (
	Warning Severity = iota
	Fault
)

// Finding is something about two nodes that stands against a migration.
type Finding struct {
	Severity Severity
	// What was compared: processor, memory, volume, network, qemu, machine.
	What string
	// Text says what stands against it and what to do.
	Text string
}

// Needs is what a machine needs of the node that takes it.
type Needs struct {
	Name        string
	MemoryMiB   int64
	CPUModel    string // that it was started with
	MachineType string
	Volume      string
	Networks    []string
}

// NodeFacts is what a node has.
type NodeFacts struct {
	Name string
	// CPUVendor, CPUFamily and CPUModelNumber are as in /proc/cpuinfo.
	CPUVendor                 string
	CPUFamily, CPUModelNumber int
	KVM                       bool
	FreeMemoryMiB             int64
	// QEMU is major, minor and micro of its version.
	QEMU         [3]int
	MachineTypes []string
	Volumes      []string
	Networks     []string
	// NetworkNotes is what is not in order with a network, by its name.
	NetworkNotes map[string]string
	// CPU is what the node says of the machine's processor model; nil where it is of
	// a version that cannot say.
	CPU *CPUVerdict
}

// CPUVerdict is what a node says of a processor model.
type CPUVerdict struct {
	Known   bool     // its QEMU knows the model
	Missing []string // what the node lacks of it
	// Features are all that it can give, where the model is no fixed one: host, max.
	Features []string
}

// Check returns everything that stands against moving a machine from one node
// to another, faults first.
func Check(m Needs, from, to NodeFacts) []Finding {
	var all []Finding
	add := func(s Severity, what, format string, args ...any) {
		all = append(all, Finding{s, what, fmt.Sprintf(format, args...)})
	}
	if from.KVM != to.KVM {
		add(Fault, "processor", "%s runs machines on %s and %s on %s; a running machine cannot change between them", from.Name, accelName(from), to.Name, accelName(to))
	}
	checkCPU(m, from, to, add)
	if to.FreeMemoryMiB < m.MemoryMiB {
		add(Fault, "memory", "%s needs %d MiB and %s has %d MiB free; free some or choose another node", m.Name, m.MemoryMiB, to.Name, to.FreeMemoryMiB)
	}
	if m.Volume != "" && !slices.Contains(to.Volumes, m.Volume) {
		add(Fault, "volume", "%s lies on %s, which %s does not have mounted", m.Name, m.Volume, to.Name)
	}
	for _, n := range m.Networks {
		why := to.NetworkNotes[n]
		switch {
		case !slices.Contains(to.Networks, n) && why != "":
			add(Fault, "network", "%s is on network %q, and %s", m.Name, n, why)
		case !slices.Contains(to.Networks, n):
			add(Fault, "network", "%s is on network %q, which %s does not have", m.Name, n, to.Name)
		case why != "":
			add(Warning, "network", "%s is on network %q, and %s", m.Name, n, why)
		}
	}
	if !slices.Contains(to.MachineTypes, m.MachineType) {
		add(Fault, "machine", "%s is a %s, which the QEMU of %s does not know; upgrade it", m.Name, m.MachineType, to.Name)
	}
	if slices.Compare(to.QEMU[:], from.QEMU[:]) < 0 {
		add(Warning, "qemu", "%s has QEMU %s, older than %s on %s; moving to an older one may fail, and then the machine stays", to.Name, dotted(to.QEMU), dotted(from.QEMU), from.Name)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return int(b.Severity) - int(a.Severity) })
	return all
}

// checkCPU asks whether the target has what the machine was started with.
func checkCPU(m Needs, from, to NodeFacts, add func(Severity, string, string, ...any)) {
	base := BaseOf(m.CPUModel)
	own := base == HostModel || base == MaxModel
	kvm := from.KVM && to.KVM
	lacks := ""
	if to.CPU != nil && from.CPU != nil {
		lacks = Some(without(to.CPU.Missing, from.CPU.Missing)) // what the source lacks too, the machine never had
		if own {
			lacks = Some(without(from.CPU.Features, to.CPU.Features))
		}
	}
	switch {
	case from.KVM != to.KVM: // that is said
	case kvm && from.CPUVendor != to.CPUVendor:
		add(Fault, "processor", "%s has a processor of %s and %s one of %s; a running machine cannot change between them", from.Name, from.CPUVendor, to.Name, to.CPUVendor)
	case kvm && own && (from.CPUFamily != to.CPUFamily || from.CPUModelNumber != to.CPUModelNumber):
		add(Fault, "processor", "%s uses all of the processor of %s (family %d, model %d), and %s has family %d, model %d; give it a model that both have (`clusterctl cluster cpu show`) and start it anew", m.Name, from.Name, from.CPUFamily, from.CPUModelNumber, to.Name, to.CPUFamily, to.CPUModelNumber)
	case own && lacks != "":
		add(Fault, "processor", "%s uses all of the processor of %s, and %s lacks %s; give it a model that both have (`clusterctl cluster cpu show`) and start it anew", m.Name, from.Name, to.Name, lacks)
	case own:
	case to.CPU == nil && kvm && from.CPUFamily != to.CPUFamily:
		add(Warning, "processor", "%s has a processor of family %d and %s of family %d; the machine's model %s must be known to both", from.Name, from.CPUFamily, to.Name, to.CPUFamily, m.CPUModel)
	case to.CPU == nil:
	case !to.CPU.Known:
		add(Fault, "processor", "%s was started with the processor model %s, which the QEMU of %s does not know; upgrade it, or choose another node", m.Name, m.CPUModel, to.Name)
	case lacks != "":
		add(Fault, "processor", "%s was started with the processor model %s, of which %s lacks %s; choose another node, or set one that all nodes have (`clusterctl cluster cpu set auto`) and start the machine anew", m.Name, m.CPUModel, to.Name, lacks)
	}
}

// without are those of all that are not among some.
func without(all, some []string) (out []string) {
	for _, s := range all {
		if !slices.Contains(some, s) {
			out = append(out, s)
		}
	}
	return out
}

func accelName(n NodeFacts) string {
	if n.KVM {
		return "KVM"
	}
	return "TCG"
}

func dotted(v [3]int) string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
