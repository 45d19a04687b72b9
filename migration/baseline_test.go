package migration

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// node is one whose QEMU knows all models; lacking has what it lacks of some, by
// commas: "EPYC:avx2 sha-ni".
func node(name, vendor string, kvm bool, lacking ...string) Processor {
	p := Processor{Node: name, Vendor: vendor, KVM: kvm, Models: map[string][]string{}}
	for _, m := range Models() {
		p.Models[m] = nil
	}
	for _, l := range lacking {
		model, features, _ := strings.Cut(l, ":")
		p.Models[model] = strings.Fields(features)
	}
	return p
}

func TestBaseline(t *testing.T) {
	old := node("s1", intel, true, "Icelake-Server-noTSX:avx512vbmi", "Cascadelake-Server-noTSX:avx512f", "Skylake-Server-noTSX-IBRS:avx512f")
	older := node("s2", intel, true, "Icelake-Server-noTSX:avx512vbmi", "Cascadelake-Server-noTSX:avx512f", "Skylake-Server-noTSX-IBRS:avx512f",
		"Skylake-Client-noTSX-IBRS:xsavec", "Broadwell-noTSX:rdseed", "Haswell-noTSX:avx2", "x86-64-v3:avx2")
	unaware := node("s4", intel, true)
	delete(unaware.Models, "Icelake-Server-noTSX")
	zen := node("s3", amd, true, "EPYC-Genoa:avx512f", "EPYC-Milan:vaes")
	tcg := node("s5", intel, false, "x86-64-v3:avx2")
	for _, tc := range []struct {
		name  string
		nodes []Processor
		want  string // or what the error says
	}{
		{"the best of a vendor", []Processor{node("s9", intel, true)}, "Icelake-Server-noTSX"},
		{"the best of the other", []Processor{node("s9", amd, true)}, "EPYC-Genoa"},
		{"one node lacks something", []Processor{zen, node("s9", amd, true)}, "EPYC-Rome"},
		{"the older one decides", []Processor{old, older}, "IvyBridge"},
		{"the older one is first", []Processor{older, old}, "IvyBridge"},
		{"an older QEMU does not know it", []Processor{unaware}, "Cascadelake-Server-noTSX"},
		{"emulated: the maker does not matter", []Processor{tcg, node("s6", amd, false)}, "x86-64-v2"},
		{"vendors differ", []Processor{old, zen, older}, "GenuineIntel (s1, s2) and AuthenticAMD (s3)"},
		{"KVM on one alone", []Processor{old, tcg}, "GenuineIntel (s1) and emulated (s5)"},
		{"one has not said", []Processor{old, {Node: "s7"}}, "of s7 it is not known"},
		{"none", nil, "there is none"},
		{"something of each", []Processor{{Node: "s8", Vendor: intel, KVM: true, Models: map[string][]string{"qemu64": {"lm"}}}}, "GenuineIntel (s8)"},
	} {
		got, err := Baseline(tc.nodes)
		if err != nil {
			if !errors.Is(err, ErrNoBaseline) {
				t.Errorf("%s: %v", tc.name, err)
			}
			got = err.Error()
		}
		if !strings.Contains(got, tc.want) || err == nil && got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}

// TestBaselineSuitsAllAndNeverGrows, for thousands of random clusters: every node can
// give all of it to machines, no rung above it does, the order of the nodes does not
// matter, and a node that is added never enlarges it.
func TestBaselineSuitsAllAndNeverGrows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	features := []string{"aes", "avx", "avx2", "avx512f", "rdseed"}
	one := func(i int) Processor {
		p := Processor{Node: fmt.Sprint("s", i), Vendor: []string{intel, intel, intel, amd}[r.IntN(4)], KVM: r.IntN(12) > 0, Models: map[string][]string{}}
		for _, m := range Models() {
			if r.IntN(20) == 0 {
				continue
			}
			p.Models[m] = nil
			if r.IntN(3) == 0 {
				p.Models[m] = features[:r.IntN(len(features))]
			}
		}
		return p
	}
	rank := func(model string, err error) int {
		if err != nil {
			return -1
		}
		return slices.Index(Models(), model)
	}
	found := 0
	for range 3000 {
		var nodes []Processor
		before := len(ladder)
		for i := range 1 + r.IntN(5) {
			nodes = append(nodes, one(i))
			model, err := Baseline(nodes)
			now := rank(model, err)
			if now > before {
				t.Fatalf("%s came with a node that was added, before it was %d: %+v", model, before, nodes)
			}
			before = now
			if err != nil {
				continue
			}
			found++
			if lacking := Lacking(model, nodes); len(lacking) > 0 {
				t.Fatalf("%s does not suit: %v", model, lacking)
			}
			for _, higher := range ladder[now+1:] {
				if (higher.vendor == "" || nodes[0].KVM && higher.vendor == nodes[0].Vendor) && len(Lacking(higher.model, nodes)) == 0 {
					t.Fatalf("%s suits too, and %s was chosen: %+v", higher.model, model, nodes)
				}
			}
			slices.Reverse(nodes)
			if again, err := Baseline(nodes); rank(again, err) != now {
				t.Fatalf("%s, and in another order %s", model, again)
			}
		}
	}
	if found < 1000 {
		t.Fatalf("only %d clusters had a baseline: the test tries nothing", found)
	}
}

// TestModelIsFitted: what a node lacks is switched off by name, and nothing is lacking
// then.
func TestModelIsFitted(t *testing.T) {
	p := node("s1", intel, true, "Haswell-noTSX:avx2 pcid", "x86-64-v2:")
	p.Features = []string{"aes", "vmx"}
	for model, want := range map[string]string{
		"Haswell-noTSX":          "Haswell-noTSX,-avx2,-pcid",
		"Haswell-noTSX,-pcid":    "Haswell-noTSX,-pcid,-avx2",
		"Haswell-noTSX,pcid=off": "Haswell-noTSX,pcid=off,-avx2",
		"x86-64-v2":              "x86-64-v2",
		"x86-64-v2,+vmx,+svm":    "x86-64-v2,+vmx,+svm,-svm",
		"x86-64-v2,svm=on":       "x86-64-v2,svm=on,-svm",
		"host":                   "host",
		"unheard-of":             "unheard-of",
	} {
		got := p.Fit(model)
		if got != want {
			t.Errorf("%s is fitted to %s, want %s", model, got, want)
		}
		if missing, known := p.Lacks(got); known && len(missing) > 0 {
			t.Errorf("%s still lacks %v", got, missing)
		}
	}
	if got := Some(strings.Fields("a b c d e f g h i j")); got != "a, b, c, d, e, f, g, h and 2 more" {
		t.Error(got)
	}
}

// TestCheckGoesByTheModelThatAMachineWasStartedWith, not by all that the processors of
// the two nodes have.
func TestCheckGoesByTheModelThatAMachineWasStartedWith(t *testing.T) {
	says := func(known bool, missing, features string) *CPUVerdict {
		return &CPUVerdict{Known: known, Missing: strings.Fields(missing), Features: strings.Fields(features)}
	}
	for _, tc := range []struct {
		name, model string
		change      func(from, to *NodeFacts)
		want        string // of the one finding; empty: there is none
	}{
		{"all of it is there", "EPYC", func(_, to *NodeFacts) { to.CPUFamily = 26 }, ""},
		{"something is not", "EPYC", func(_, to *NodeFacts) { to.CPU = says(true, "sha-ni avx2", "") }, "of which s2 lacks sha-ni, avx2; choose another node"},
		{"the source lacks it too", "EPYC", func(from, to *NodeFacts) { from.CPU, to.CPU = says(true, "avx2", ""), says(true, "avx2", "") }, ""},
		{"the source lacks another thing", "EPYC", func(from, to *NodeFacts) { from.CPU, to.CPU = says(true, "avx", ""), says(true, "avx2", "") }, "lacks avx2"},
		{"an older QEMU", "EPYC-Milan", func(_, to *NodeFacts) { to.CPU = says(false, "", "") }, "which the QEMU of s2 does not know"},
		{"a target that cannot say", "EPYC", func(_, to *NodeFacts) { to.CPU, to.CPUFamily = nil, 26 }, "must be known to both"},
		{"of another vendor", "EPYC", func(_, to *NodeFacts) { to.CPUVendor = "Intel" }, "a running machine cannot change"},
		{"host, of the same model", "host", func(from, to *NodeFacts) { from.CPU, to.CPU = says(true, "", "aes avx"), says(true, "", "aes avx vmx") }, ""},
		{"host, of the same model, with less switched on", "host", func(from, to *NodeFacts) { from.CPU, to.CPU = says(true, "", "aes avx"), says(true, "", "aes") }, "s2 lacks avx"},
		{"host, of another model", "host", func(_, to *NodeFacts) { to.CPUModelNumber = 2 }, "model 2; give it a model that both have"},
		{"emulated on both", "Haswell-noTSX", func(from, to *NodeFacts) { from.KVM, to.KVM, to.CPUVendor = false, false, "Intel" }, ""},
		{"emulated, by a QEMU that can less", "max", func(from, to *NodeFacts) {
			from.KVM, to.KVM, from.CPU, to.CPU = false, false, says(true, "", "aes avx"), says(true, "", "aes")
		}, "s2 lacks avx"},
	} {
		from := NodeFacts{Name: "s1", CPUVendor: "AMD", CPUFamily: 25, KVM: true, FreeMemoryMiB: 2048, MachineTypes: []string{"q35"}, CPU: says(true, "", "")}
		to := from
		to.Name, to.CPU = "s2", says(true, "", "")
		tc.change(&from, &to)
		found := Check(Needs{Name: "sql01", MemoryMiB: 1024, CPUModel: tc.model, MachineType: "q35"}, from, to)
		switch {
		case tc.want == "" && len(found) == 0:
		case len(found) != 1 || tc.want == "" || !strings.Contains(found[0].Text, tc.want) || found[0].What != "processor":
			t.Errorf("%s: %+v, want %q", tc.name, found, tc.want)
		}
	}
}
