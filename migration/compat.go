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
	CPUModel    string // as in its settings
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
	if from.KVM && to.KVM {
		checkCPU(m, from, to, add)
	}
	if to.FreeMemoryMiB < m.MemoryMiB {
		add(Fault, "memory", "%s needs %d MiB and %s has %d MiB free; free some or choose another node", m.Name, m.MemoryMiB, to.Name, to.FreeMemoryMiB)
	}
	if m.Volume != "" && !slices.Contains(to.Volumes, m.Volume) {
		add(Fault, "volume", "%s lies on %s, which %s does not have mounted", m.Name, m.Volume, to.Name)
	}
	for _, n := range m.Networks {
		if !slices.Contains(to.Networks, n) {
			add(Fault, "network", "%s is on network %q, which %s does not have", m.Name, n, to.Name)
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

// checkCPU compares processors that machines run on directly.
func checkCPU(m Needs, from, to NodeFacts, add func(Severity, string, string, ...any)) {
	switch {
	case from.CPUVendor != to.CPUVendor:
		add(Fault, "processor", "%s has a processor of %s and %s one of %s; a running machine cannot change between them", from.Name, from.CPUVendor, to.Name, to.CPUVendor)
	case m.CPUModel == "host" && (from.CPUFamily != to.CPUFamily || from.CPUModelNumber != to.CPUModelNumber):
		add(Fault, "processor", "%s uses all of the processor of %s (family %d, model %d), and %s has family %d, model %d; give the machine a common cpu_model", m.Name, from.Name, from.CPUFamily, from.CPUModelNumber, to.Name, to.CPUFamily, to.CPUModelNumber)
	case from.CPUFamily != to.CPUFamily:
		add(Warning, "processor", "%s has a processor of family %d and %s of family %d; the machine's model %s must be known to both", from.Name, from.CPUFamily, to.Name, to.CPUFamily, m.CPUModel)
	}
}

func accelName(n NodeFacts) string {
	if n.KVM {
		return "KVM"
	}
	return "TCG"
}

func dotted(v [3]int) string { return fmt.Sprintf("%d.%d.%d", v[0], v[1], v[2]) }
