package sim

import (
	"math/rand/v2"
	"slices"
)

// theme is what a storm is made of: which faults, and what the administrators do
// meanwhile. Many faults of one sort find what a mixture of all hardly ever does.
type theme struct {
	name   string
	faults []chance
	// deeds are what the administrators do.
	deeds []chance
}

// chance is one thing among several, with its weight.
type chance struct {
	what   string
	weight int
	moment moment // of a fault, or ""
}

// mixture is what administrators do where nothing else is said.
var mixture = []chance{
	{"read", 28, ""},
	{"wish", 30, ""},
	{"move", 30, ""},
	{"cancel", 5, ""},
	{"mode", 3, ""},
	{"add", 2, ""},
	{"evict", 2, ""},
	{"move a volume", 3, ""},
	{"upgrade", 2, ""},
	{"address", 2, ""},
}

// themes are all, the mixture of everything first.
var themes = []theme{
	{"mixed", []chance{
		{"clusterd crashes", 10, ""},
		{"noded crashes", 4, ""},
		{"clusterd hangs", 8, ""},
		{"noded hangs", 4, ""},
		{"node hangs", 8, ""},
		{"power fails", 8, ""},
		{"power fails everywhere", 1, ""},
		{"node is cut off", 8, ""},
		{"node is not heard", 4, ""},
		{"one way is cut", 5, ""},
		{"nodes are split", 6, ""},
		{"network is slow", 3, ""},
		{"network loses", 3, ""},
		{"network fails", 2, ""},
		{"path to a LUN is lost", 8, ""},
		{"SAN fails", 2, ""},
		{"LUN is slow", 4, ""},
		{"LUN aborts commands", 2, ""},
		{"target restarts", 5, ""},
		{"target loses power", 3, ""},
		{"path to the share is lost", 3, ""},
		{"node is cut off, from the share too", 3, ""},
		{"file server fails", 2, ""},
		{"file server restarts", 2, ""},
		{"file server loses power", 2, ""},
		{"file server is slow", 2, ""},
		{"disk is slow", 4, ""},
		{"disk fails", 2, ""},
		{"disk is full", 2, ""},
		{"site fails", 2, ""},
		{"site is cut off", 2, ""},
		{"wall clock jumps", 4, ""},
		{"QEMU crashes", 4, ""},
		{"QEMU hangs", 3, ""},
		{"writes linger", 2, ""},
		{"machines do not start", 2, ""},
		{"machines start slowly", 2, ""},
		{"leader is not heard by one, and others restart", 1, ""},
		{"power fails", 3, whileFlushing},
		{"power fails", 1, whileCompacting},
		{"power fails", 2, afterAcknowledging},
		{"node hangs, and wakes cut off", 3, ""},
		{"clusterd hangs", 2, atSwitch},
		{"move is cancelled", 2, whenLoaded},
	}, mixture},
	{"witness", []chance{
		{"node hangs, and wakes cut off", 8, ""},
		{"node hangs, and wakes cut off", 4, afterTakeover},
		{"node hangs", 3, ""},
		{"node hangs", 6, afterTakeover},
		{"clusterd restarts", 4, afterTakeover},
		{"clusterd hangs", 4, ""},
		{"path to a LUN is lost", 5, ""},
		{"LUN aborts commands", 5, ""},
		{"LUN is slow", 2, ""},
		{"target restarts", 2, ""},
		{"target loses power", 1, ""},
		{"power fails", 3, ""},
		{"node is cut off", 4, ""},
		{"one way is cut", 3, ""},
	}, mixture},
	{"share", []chance{
		{"node is cut off, from the share too", 10, ""},
		{"path to the share is lost", 8, ""},
		{"node hangs, and wakes cut off", 8, ""},
		{"node hangs", 6, afterTakeover},
		{"node is cut off", 6, ""},
		{"clusterd restarts", 4, afterTakeover},
		{"clusterd hangs", 3, ""},
		{"file server restarts", 4, ""},
		{"file server loses power", 4, ""},
		{"file server fails", 2, ""},
		{"file server is slow", 2, ""},
		{"power fails", 6, ""},
		{"power fails", 3, afterAcknowledging},
		{"one way is cut", 3, ""},
		{"power fails everywhere", 1, ""},
	}, []chance{{"read", 20, ""}, {"wish", 40, ""}, {"move", 20, ""}, {"mode", 8, ""}}},
	{"disks", []chance{
		{"power fails", 8, whileFlushing},
		{"power fails", 8, whileCompacting},
		{"power fails", 8, afterAcknowledging},
		{"clusterd restarts", 3, afterAcknowledging},
		{"disk is slow", 4, ""},
		{"disk fails", 3, ""},
		{"disk is full", 4, ""},
		{"power fails everywhere", 2, ""},
		{"target loses power", 2, ""},
		{"one way is cut", 2, ""},
	}, []chance{{"read", 20, ""}, {"wish", 60, ""}, {"move", 10, ""}, {"mode", 4, ""}}},
	{"san", []chance{
		{"node hangs", 6, ""},
		{"noded hangs", 6, ""},
		{"target restarts", 8, ""},
		{"target loses power", 2, ""},
		{"writes linger", 8, ""},
		{"LUN aborts commands", 3, ""},
		{"path to a LUN is lost", 4, ""},
		{"node is cut off", 8, ""},
		{"power fails", 2, ""},
		{"SAN fails", 1, ""},
	}, mixture},
	{"address", []chance{
		{"node hangs", 6, ""},
		{"noded hangs", 6, ""},
		{"noded crashes", 4, ""},
		{"node is cut off", 8, ""},
		{"nodes are split", 4, ""},
		{"site is cut off", 2, ""},
		{"network is slow", 3, ""},
		{"clusterd restarts", 4, ""},
		{"power fails", 3, ""},
	}, []chance{{"read", 20, ""}, {"wish", 20, ""}, {"move", 10, ""}, {"address", 30, ""}, {"evict", 3, ""}, {"add", 3, ""}}},
	{"sites", []chance{
		{"site fails", 10, ""},
		{"site is cut off", 10, ""},
		{"power fails", 4, ""},
		{"node is cut off", 3, ""},
		{"clusterd restarts", 4, ""},
		{"path to a LUN is lost", 2, ""},
	}, mixture},
	{"leaving", []chance{
		{"power fails", 10, ""}, {"node is cut off", 4, ""}, {"clusterd restarts", 6, ""}, {"network is slow", 6, ""}, {"disk is slow", 4, ""},
	}, []chance{{"wish", 10, ""}, {"add", 30, ""}, {"evict", 50, ""}}},
	{"witnesses", []chance{
		{"node is cut off", 12, ""}, {"node hangs, and wakes cut off", 6, ""}, {"power fails", 8, ""}, {"clusterd restarts", 4, ""}, {"target loses power", 2, ""},
	}, []chance{{"wish", 10, ""}, {"mode", 60, ""}}},
	{"fences", []chance{
		{"writes linger", 10, ""}, {"node is cut off", 14, ""}, {"node is not heard", 4, ""}, {"power fails", 2, ""},
	}, mixture},
	{"targets", []chance{
		{"node hangs", 10, ""}, {"noded hangs", 6, ""}, {"target restarts", 14, ""},
	}, mixture},
	{"starts", []chance{
		{"machines do not start", 8, ""}, {"machines start slowly", 14, ""}, {"node is cut off", 10, ""}, {"network is slow", 8, ""}, {"QEMU crashes", 10, ""}, {"power fails", 2, ""}, {"clusterd hangs", 2, ""}, {"noded crashes", 2, ""},
	}, []chance{{"read", 10, ""}, {"wish", 60, ""}, {"move", 30, ""}}},
	{"votes", []chance{
		{"leader is not heard by one, and others restart", 10, ""},
		{"one way is cut", 8, ""},
		{"clusterd restarts", 8, ""},
		{"clusterd restarts", 6, afterAcknowledging},
		{"node is not heard", 3, ""},
		{"nodes are split", 4, ""},
		{"clusterd hangs", 4, ""},
		{"node hangs, and wakes cut off", 3, ""},
		{"network is slow", 2, ""},
		{"power fails", 2, ""},
	}, []chance{{"read", 30, ""}, {"wish", 30, ""}, {"move", 30, ""}}},
	{"moves", []chance{
		{"clusterd hangs", 6, atSwitch},
		{"power fails", 3, atSwitch},
		{"node is not heard", 4, atSwitch},
		{"move is cancelled", 8, whenLoaded},
		{"clusterd restarts", 4, whenLoaded},
		{"QEMU crashes", 2, ""},
		{"QEMU hangs", 3, ""},
		{"one way is cut", 3, ""},
		{"noded crashes", 1, ""},
		{"clusterd restarts", 2, ""},
	}, []chance{{"read", 5, ""}, {"wish", 15, ""}, {"move", 80, ""}}},
	{"saves", []chance{
		{"clusterd restarts", 6, whenSaved},
		{"clusterd restarts", 6, whenRestored},
		{"clusterd hangs", 3, whenSaved},
		{"clusterd hangs", 3, whenRestored},
		{"power fails", 3, whenSaved},
		{"power fails", 5, whenRestored},
		{"node is cut off", 3, whenRestored},
		{"clusterd restarts", 3, ""},
		{"node is cut off", 3, ""},
		{"node hangs", 2, ""},
		{"QEMU crashes", 2, ""},
		{"noded crashes", 1, ""},
	}, []chance{{"read", 5, ""}, {"wish", 30, ""}, {"save", 30, ""}, {"quick move", 20, ""}, {"move", 5, ""}, {"discard", 2, ""}, {"move off", 5, ""}}},
	{"drains", []chance{
		{"clusterd restarts", 8, ""},
		{"clusterd hangs", 5, ""},
		{"clusterd crashes", 3, ""},
		{"power fails", 5, ""},
		{"node hangs", 4, ""},
		{"node is cut off", 6, ""},
		{"noded crashes", 2, ""},
		{"path to a LUN is lost", 4, ""},
		{"QEMU crashes", 3, ""},
		{"clusterd hangs", 3, atSwitch},
		{"power fails", 2, atSwitch},
		{"clusterd restarts", 2, whenSaved},
	}, []chance{
		{"read", 5, ""},
		{"wish", 25, ""},
		{"move", 10, ""},
		{"save", 3, ""},
		{"quick move", 3, ""},
		{"move off", 5, ""},
		{"move a volume", 3, ""},
		{"drain", 20, ""},
		{"resume", 20, ""},
		{"disarm", 5, ""},
		{"address", 2, ""},
		{"upgrade", 6, ""},
	}},
	{"policies", []chance{
		{"machines do not start", 10, ""},
		{"QEMU crashes", 8, ""},
		{"power fails", 8, ""},
		{"node is cut off", 5, ""},
		{"clusterd restarts", 4, ""},
		{"clusterd hangs", 3, ""},
		{"path to a LUN is lost", 2, ""},
		{"wall clock jumps", 2, ""},
		{"power fails everywhere", 1, ""},
		{"clusterd hangs", 2, atSwitch},
	}, []chance{
		{"read", 5, ""},
		{"wish", 30, ""},
		{"move", 15, ""},
		{"policy", 25, ""},
		{"rule", 20, ""},
		{"move off", 8, ""},
		{"save", 2, ""},
		{"quick move", 4, ""},
		{"drain", 2, ""},
		{"resume", 4, ""},
		{"upgrade", 6, ""},
	}},
	{"disasters", []chance{
		{"disaster", 10, ""},
		{"power fails", 4, ""},
		{"clusterd restarts", 4, ""},
		{"node hangs", 3, ""},
		{"node is cut off", 4, ""},
		{"power fails", 3, afterAcknowledging},
		{"network is slow", 3, ""},
		{"disk is slow", 2, ""},
		{"path to a LUN is lost", 2, ""},
	}, []chance{{"read", 20, ""}, {"wish", 60, ""}, {"move", 10, ""}, {"mode", 4, ""}, {"add", 6, ""}}},
	{"members", []chance{
		{"power fails", 4, ""},
		{"clusterd restarts", 4, ""},
		{"node hangs", 3, ""},
		{"node is cut off", 4, ""},
		{"nodes are split", 3, ""},
		{"path to a LUN is lost", 3, ""},
		{"power fails", 2, afterAcknowledging},
		{"clusterd hangs", 2, ""},
		{"disk is full", 1, ""},
	}, []chance{{"read", 5, ""}, {"wish", 10, ""}, {"move", 5, ""}, {"mode", 30, ""}, {"add", 25, ""}, {"evict", 25, ""}}},
	{"storage", []chance{
		{"clusterd restarts", 8, ""},
		{"clusterd hangs", 8, ""},
		{"clusterd crashes", 4, ""},
		{"noded crashes", 3, ""},
		{"node hangs", 5, ""},
		{"power fails", 6, ""},
		{"node is cut off", 6, ""},
		{"path to a LUN is lost", 3, ""},
		{"network is slow", 3, ""},
		{"QEMU crashes", 8, ""},
		{"QEMU hangs", 4, ""},
	}, []chance{{"read", 5, ""}, {"wish", 25, ""}, {"move", 15, ""}, {"storage", 55, ""}}},
}

// Themes are the names of the themes that Options.Theme may have.
func Themes() []string {
	var names []string
	for _, t := range themes {
		names = append(names, t.name)
	}
	return names
}

// pickTheme is a storm's: the one that is named, else the mixture for every second
// storm and any for the others.
func pickTheme(r *rand.Rand, name string) *theme {
	i := slices.IndexFunc(themes, func(t theme) bool { return t.name == name })
	if drawn := r.IntN(2 * len(themes)); i < 0 {
		i = max(0, drawn-len(themes))
	}
	return &themes[i]
}

// draw picks one of several.
func draw(r *rand.Rand, from []chance) chance {
	total := 0
	for _, c := range from {
		total += c.weight
	}
	pick := r.IntN(total)
	i := slices.IndexFunc(from, func(c chance) bool {
		pick -= c.weight
		return pick < 0
	})
	return from[i]
}

// fault draws one.
func (t *theme) fault(r *rand.Rand) kind {
	c := draw(r, t.faults)
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == c.what && k.moment == c.moment })
	return kinds[i]
}
