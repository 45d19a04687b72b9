package sim

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"
)

// fixed is how many seeds are run each time, from 1 on; found are those that have
// found something before.
const fixed = 12

var found = []uint64{1795530901471301803}

// check runs a seed and reports what it violates, with the shortest story of it.
func check(t *testing.T, opt Options) Result {
	t.Helper()
	r := Run(opt)
	if r.Violation != nil {
		o, short := Shrink(opt, r, 20*time.Second)
		t.Fatalf("seed %d violates %v\nthe shortest run that shows it lasts %v:\n%s%v", r.Seed, r.Violation, o.Until, short.Text(), short.Violation)
	}
	return r
}

// TestSeeds runs the fixed seeds, and says what happened in them: a simulation in
// which nothing does proves nothing.
func TestSeeds(t *testing.T) {
	var all Done
	seeds := slices.Clone(found)
	for i := range uint64(fixed) {
		seeds = append(seeds, i+1)
	}
	var runs []Options
	for _, seed := range seeds {
		runs = append(runs, Options{Seed: seed})
	}
	// Few storms are a disaster.
	runs = append(runs, Options{Seed: 4, Theme: "disasters"}, Options{Seed: 9, Theme: "disasters"}, Options{Seed: 1, Theme: "saves"}, Options{Seed: 2, Theme: "saves"}, Options{Seed: 1, Theme: "drains"}, Options{Seed: 2, Theme: "drains"}, Options{Seed: 1, Theme: "policies"}, Options{Seed: 55, Theme: "policies"})
	for _, opt := range runs {
		r := check(t, opt)
		t.Logf("seed %d: %d faults, %+v", r.Seed, r.Faults, r.Done)
		all.add(r.Done)
	}
	for what, n := range map[string]int{
		"commits": all.Commits, "elections": all.Elections, "takeovers of the witness": all.Takeovers, "takeovers of a witness on a share": all.OnShare, "locks that the file server broke": all.Broken,
		"times that quorum was forced": all.Forced, "nodes that gave their state up": all.Superseded, "dead nodes": all.NodesDown,
		"fences": all.Fences, "starts": all.Starts, "moves": all.Moves, "saves": all.Saves, "nodes that were drained": all.Drained, "policies that were set": all.Policies, "machines that went elsewhere since they failed": all.Failovers, "machines that went on from a saved state": all.Restores, "moves that failed": all.MovesFailed, "late writes": all.LateWrites,
		"reads": all.Reads, "addresses of the cluster that came up": all.Addresses, "judgements of a calm": all.Settled, "formats after the first": int(all.Format) - 1,
	} {
		if n == 0 {
			t.Errorf("in all seeds there were no %s", what)
		}
	}
}

// TestFreshSeeds runs as many others as SIM_FRESH says, from SIM_FROM on, a number
// in hexadecimal: `make test` makes it of the commit, so that each commit meets
// seeds that none has met before, and a second run of it meets the same.
func TestFreshSeeds(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("SIM_FRESH"))
	if err != nil {
		t.Skip("SIM_FRESH says how many, and does not:", err)
	}
	first, err := strconv.ParseUint(os.Getenv("SIM_FROM"), 16, 64)
	if err != nil {
		t.Fatal("SIM_FROM says from which on, and does not:", err)
	}
	began, simulated := time.Now(), time.Duration(0)
	for n := range uint64(count) {
		simulated += check(t, Options{Seed: first + n}).Simulated
	}
	t.Logf("%d fresh seeds from %d on, %.1f hours simulated, %.1f per real minute", count, first, simulated.Hours(), simulated.Hours()/time.Since(began).Minutes())
}

// TestSameSeedSameRun: two runs of a seed are the same, byte for byte, and those of
// two seeds are not.
func TestSameSeedSameRun(t *testing.T) {
	opt := Options{Seed: 7, Story: true, Length: 8 * time.Minute}
	one, two := Run(opt), Run(opt)
	if one.Hash != two.Hash || !slices.Equal(one.Story, two.Story) {
		for i := range min(len(one.Story), len(two.Story)) {
			if one.Story[i] != two.Story[i] {
				t.Fatalf("the stories part at line %d:\n%s\n%s", i, one.Story[i], two.Story[i])
			}
		}
		t.Fatalf("hashes %x and %x, %d and %d lines", one.Hash, two.Hash, len(one.Story), len(two.Story))
	}
	if len(one.Story) < 50 || one.Faults == 0 {
		t.Fatalf("little happened: %d faults, %d lines", one.Faults, len(one.Story))
	}
	opt.Seed++
	if Run(opt).Hash == one.Hash {
		t.Fatal("another seed gives the same run")
	}
}
