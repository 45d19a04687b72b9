package migration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Models that are no baseline: the processor of the node itself, and all that its QEMU
// can.
const (
	HostModel = "host"
	MaxModel  = "max"
)

// DefaultModel is that of a cluster that has set none: processors since 2009 have it.
const DefaultModel = "x86-64-v2"

// Makers of processors, as /proc/cpuinfo names them.
const (
	intel = "GenuineIntel"
	amd   = "AuthenticAMD"
)

// rung is a model that may be a cluster's baseline.
type rung struct {
	model  string
	vendor string // whose processors it is of; empty: anybody's
}

// ladder are these, each before all that have more than it. Those of a vendor are
// QEMU's, in the form that its makers' corrections of 2018 to 2021 (no TSX, with the
// means against branch injection) have left; x86-64-v2 and v3 are levels of the x86-64 ABI.
var ladder = []rung{
	{"qemu64", ""},
	{"Nehalem", intel},
	{"x86-64-v2", ""},
	{"Westmere", intel},
	{"SandyBridge", intel},
	{"IvyBridge", intel},
	{"x86-64-v3", ""},
	{"Haswell-noTSX", intel},
	{"Broadwell-noTSX", intel},
	{"Skylake-Client-noTSX-IBRS", intel},
	{"Skylake-Server-noTSX-IBRS", intel},
	{"Cascadelake-Server-noTSX", intel},
	{"Icelake-Server-noTSX", intel},
	{"EPYC", amd},
	{"EPYC-Rome", amd},
	{"EPYC-Milan", amd},
	{"EPYC-Genoa", amd},
}

// Models are those that may be a cluster's baseline, each before all that have more.
func Models() []string {
	var out []string
	for _, r := range ladder {
		out = append(out, r.model)
	}
	return out
}

// Processor is what a node can give machines for a processor.
type Processor struct {
	Node   string
	Vendor string // as in /proc/cpuinfo
	KVM    bool   // else processors are emulated, and the vendor does not matter
	// Models has what the node lacks of each model that its QEMU knows. Without any,
	// nothing is known.
	Models map[string][]string
	// Features are all that it can give. nil where they are not known.
	Features []string
}

// Lacks are the features of a model, which may have some switched on and off, that a
// node cannot give. known is false where its QEMU does not know the model. What is
// switched on counts only where the node's features are known.
func (p Processor) Lacks(model string) (missing []string, known bool) {
	base, on, off := splitModel(model)
	lacks, known := p.Models[base]
	for _, f := range lacks {
		if !slices.Contains(off, f) {
			missing = append(missing, f)
		}
	}
	for _, f := range on {
		if p.Features != nil && !slices.Contains(p.Features, f) && !slices.Contains(missing, f) {
			missing = append(missing, f)
		}
	}
	return missing, known
}

// Fit is a model with what the node lacks of it switched off, so that its name says
// what a machine has that is started with it there. QEMU would leave that out silently.
func (p Processor) Fit(model string) string {
	missing, known := p.Lacks(model)
	if !known {
		return model
	}
	var b strings.Builder
	b.WriteString(model)
	for _, f := range missing {
		b.WriteString(",-" + f)
	}
	return b.String()
}

// splitModel parts a model from the features that are switched on and off with it, in
// both forms of QEMU's: +f and -f, f=on and f=off. As there, off prevails.
func splitModel(model string) (base string, on, off []string) {
	parts := strings.Split(model, ",")
	for _, part := range parts[1:] {
		name, value, set := strings.Cut(part, "=")
		switch {
		case strings.HasPrefix(part, "+"):
			on = append(on, part[1:])
		case strings.HasPrefix(part, "-"):
			off = append(off, part[1:])
		case !set || value == "on" || value == "yes" || value == "true":
			on = append(on, name)
		case value == "off" || value == "no" || value == "false":
			off = append(off, name)
		}
	}
	on = slices.DeleteFunc(on, func(f string) bool { return slices.Contains(off, f) })
	return parts[0], on, off
}

// BaseOf is a model without what is switched on and off with it.
func BaseOf(model string) string { return strings.SplitN(model, ",", 2)[0] }

// ErrNoBaseline says that no model suits all nodes; it comes with the reason.
var ErrNoBaseline = errors.New("no processor model suits all nodes")

// Baseline is the model with most that all these nodes can give to machines, so that
// every machine which is started with it can move to each of them.
func Baseline(nodes []Processor) (string, error) {
	if err := unlike(nodes); err != nil {
		return "", err
	}
	for _, r := range slices.Backward(ladder) {
		if r.vendor != "" && (!nodes[0].KVM || r.vendor != nodes[0].Vendor) {
			continue
		}
		if !slices.ContainsFunc(nodes, func(p Processor) bool { missing, known := p.Lacks(r.model); return !known || len(missing) > 0 }) {
			return r.model, nil
		}
	}
	return "", fmt.Errorf("%w: they are %s, and lack something of every model", ErrNoBaseline, by(nodes, vendorOf))
}

// unlike says why there is nothing that these nodes could have in common.
func unlike(nodes []Processor) error {
	if len(nodes) == 0 {
		return fmt.Errorf("%w: there is none", ErrNoBaseline)
	}
	var silent []string
	for _, p := range nodes {
		if len(p.Models) == 0 {
			silent = append(silent, p.Node)
		}
	}
	first := nodes[0]
	differs := func(f func(Processor) bool) bool { return slices.ContainsFunc(nodes, f) }
	switch {
	case len(silent) > 0:
		return fmt.Errorf("%w: of %s it is not known which it can; see that QEMU and the present version of Quorate are there", ErrNoBaseline, strings.Join(silent, ", "))
	case differs(func(p Processor) bool { return p.KVM != first.KVM }):
		return fmt.Errorf("%w: some have KVM and others emulate, and a running machine cannot change between them: %s", ErrNoBaseline, by(nodes, vendorOf))
	case first.KVM && differs(func(p Processor) bool { return p.Vendor != first.Vendor }):
		return fmt.Errorf("%w: a running machine cannot change between processors of different vendors, and these are %s", ErrNoBaseline, by(nodes, vendorOf))
	}
	return nil
}

func vendorOf(p Processor) string {
	if !p.KVM {
		return "emulated"
	}
	return p.Vendor
}

// by lists which nodes are what.
func by(nodes []Processor, what func(Processor) string) string {
	var order []string
	names := map[string][]string{}
	for _, p := range nodes {
		w := what(p)
		if names[w] == nil {
			order = append(order, w)
		}
		names[w] = append(names[w], p.Node)
	}
	for i, w := range order {
		order[i] = fmt.Sprintf("%s (%s)", w, strings.Join(names[w], ", "))
	}
	return strings.Join(order, " and ")
}

// Lacking says of each node that cannot give all of a model what it lacks of it; a node
// of which nothing is known is passed over.
func Lacking(model string, nodes []Processor) (out []string) {
	base := BaseOf(model)
	for _, p := range nodes {
		if base == HostModel || base == MaxModel || len(p.Models) == 0 {
			continue
		}
		switch missing, known := p.Lacks(model); {
		case !known:
			out = append(out, fmt.Sprintf("the QEMU of %s does not know it", p.Node))
		case len(missing) > 0:
			out = append(out, fmt.Sprintf("%s lacks %s of it", p.Node, Some(missing)))
		}
	}
	return out
}

// maxNamed is how many features are named where more are missing.
const maxNamed = 8

// Some lists features, and where there are many how many more there are.
func Some(features []string) string {
	if n := len(features) - maxNamed; n > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(features[:maxNamed], ", "), n)
	}
	return strings.Join(features, ", ")
}

// LacksOfOthers is the least model that another node can give and the i-th cannot, with
// what that lacks of it, or nothing.
func LacksOfOthers(nodes []Processor, i int) (model string, missing []string) {
	for _, r := range ladder {
		lacks, known := nodes[i].Lacks(r.model)
		if !known || len(lacks) == 0 {
			continue
		}
		for j, p := range nodes {
			if theirs, known := p.Lacks(r.model); j != i && known && len(theirs) == 0 && (r.vendor == "" || p.KVM && r.vendor == p.Vendor) {
				return r.model, lacks
			}
		}
	}
	return "", nil
}
