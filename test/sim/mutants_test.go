//go:build mutants

package sim

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"quorate/internal/mutant"
)

// mutants are the ways in which the product is broken, each with the rule that it
// breaks, and the theme, number of nodes and first seed with which that is soon seen:
// where it is not 1, those before it were seen to miss it.
// The seven rules for a witness that is a raft voter are among them.
var mutants = []struct {
	name, theme string
	nodes       int
	seed        uint64
	rule        string
}{
	{"fence skipped", "mixed", 0, 1, "nothing changes hands before the old owner's key is removed"},
	{"fence without reset", "fences", 0, 1, "a fence is proved by a reset that was answered"},
	{"key taken back", "targets", 0, 1, "a node never registers again a key that another has removed"},
	{"lease from the answer", "mixed", 0, 1, "a lease runs from the leader's last contact with a majority"},
	{"lease without majority", "votes", 3, 13, "a leader without a majority grants no lease"},
	{"lease not waited for", "votes", 0, 1, "the leader waits until the lease is over by its own clock"},
	{"one proof is enough", "mixed", 0, 1, "a dead node can neither write nor answer: two proofs"},
	{"lease forgotten", "votes", 0, 1, "a leader remembers until when each lease lasts that it has granted"},
	{"yesterday's leader decides", "votes", 3, 1, "what a leader decided counts in its term alone, and only while a majority follows"},
	{"vote right after the start", "votes", 3, 42, "a voter that has just started gives no vote: it may have acknowledged a leader just before"},
	{"append without flush", "disks", 0, 1, "what was acknowledged is durable"},
	{"header before area", "disks", 0, 1, "a log turns to a new area only when that is durable"},
	{"window skipped", "witness", 2, 1, "a host is fenced only when its block stood still for a whole window"},
	{"applied before it is committed", "mixed", 0, 1, "a command is acknowledged when a majority has it"},
	{"gate without lease", "targets", 0, 1, "the gate lets a write through only while the lease lasts"},
	{"one key for all epochs", "fences", 0, 1, "who was fenced comes back with a key of its own for its next epoch"},
	{"owner without a new epoch", "mixed", 0, 1, "a machine changes hands by a new epoch"},
	{"epoch ignored", "starts", 0, 6, "no start outlives the epoch of its node by which it was authorised"},
	{"address passes at once", "address", 0, 1, "the cluster's address changes hands when the old owner's lease is over"},
	{"removed with its vote", "leaving", 3, 86, "a node is removed when it has no vote"},
	{"earlier witness takes the place", "witnesses", 2, 1, "who has not heard of a later witness leaves its place alone"},
	{"target runs unasked", "moves", 0, 1, "the two ends of a migration never run both"},
	{"unknown is no", "moves", 0, 2, "only the answer to the proposal decides where a migrated machine is"},
	{"generation ignored", "witness", 4, 15, "rule 1: a witness that hears of a newer generation ends"},
	{"failed write acknowledged", "witness", 0, 14, "rule 2: after a failed write the witness is thrown away"},
	{"unconfirmed witness speaks", "witness", 0, 1, "rule 3: the witness answers nothing that its LUN has not confirmed"},
	{"hard state left out", "disks", 0, 1, "rule 4: the latest hard state goes with every batch of entries"},
	{"hard state before entries", "disks", 0, 15, "rule 5: one atomic record for each batch"},
	{"witness without database", "disks", 0, 1, "rule 6: the witness is a whole replica"},
	{"lost lock not noticed", "share", 2, 1, "a host of a witness on a share says nothing that a write through its lock has not confirmed"},
	{"witness without its lock", "share", 2, 1, "a witness on a share is its host's alone: the server's lock keeps the others out"},
	{"node of before is believed", "disasters", 3, 1, "where quorum was forced, no node of before has a voice again"},
	{"promise to follow forgotten", "disasters", 3, 1, "who has promised to follow an incarnation never uses its old log again"},
	{"force forgets what is not committed", "disasters", 3, 1, "quorum is forced with all that the node had acknowledged"},
	{"copy outlives a start", "storage", 0, 1, "a machine moves to another volume by the copy of what it has, and not by one of before it started"},
	{"log of another incarnation", "disasters", 0, 209, "a witness never goes on from the log of another incarnation"},
	{"format ahead of a node", "members", 0, 1, "the database moves on to a format only when every node can it"},
	{"state used twice", "saves", 0, 1, "a saved state is used up by a commit before a process runs by it"},
	{"policy ignored", "policies", 0, 1, "nothing runs on a node that its policy bars"},
	{"acts while disarmed", "drains", 0, 1, "a disarmed cluster moves and starts nothing unasked"},
	{"drained before it is empty", "drains", 0, 1, "a node is stated to be drained when nothing is left there"},
	{"leader removed", "members", 0, 1, "rule 7: the leader is neither removed nor demoted"},
}

// maxSeeds is within how many seeds each mutant must be caught.
const maxSeeds = 30

// chosen names, in the environment, the mutant of a process.
const chosen = "SIM_MUTANT"

// TestMutantsAreCaught breaks the product in each way and expects a checker to
// object. Each mutant has a process of its own, for raft has one random source in a
// process.
func TestMutantsAreCaught(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestMutant$", "-test.v")
			cmd.Env = append(os.Environ(), chosen+"="+m.name)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s", m.rule, err, out)
				return
			}
			_, said, _ := strings.Cut(string(out), "caught by ")
			said, _, _ = strings.Cut(said, "\n")
			t.Logf("%s: caught by %s", m.rule, said)
		})
	}
}

// TestMutant looks for a violation of the mutant that the environment names.
func TestMutant(t *testing.T) {
	for _, m := range mutants {
		if m.name != os.Getenv(chosen) {
			continue
		}
		mutant.Alive = m.name
		defer func() { mutant.Alive = "" }()
		began := time.Now()
		for n := range uint64(maxSeeds) {
			if r := Run(Options{Seed: m.seed + n, Theme: m.theme, Nodes: m.nodes}); r.Violation != nil {
				what, _, _ := strings.Cut(fmt.Sprint(r.Violation), "\n")
				t.Logf("caught by %s; seed %d, in %v", what, r.Seed, time.Since(began).Round(100*time.Millisecond))
				return
			}
		}
		t.Fatalf("not caught with %d seeds", maxSeeds)
	}
	if os.Getenv(chosen) == "" {
		t.Skip("it is run by TestMutantsAreCaught")
	}
}
