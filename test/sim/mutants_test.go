//go:build mutants

package sim

import (
	"testing"
	"time"

	"quorate/internal/mutant"
)

// mutants are the ways in which the product is broken, each with the rule that it
// breaks. The seven rules for a witness that is a raft voter are among them.
var mutants = []struct{ name, rule string }{
	{"fence skipped", "nothing changes hands before the old owner's key is removed"},
	{"fence without reset", "a fence is proved by a reset that was answered"},
	{"key taken back", "a node never registers again a key that another has removed"},
	{"gate without lease", "a node without a lease does not write"},
	{"lease from the answer", "a lease runs from the leader's last contact with a majority"},
	{"lease without majority", "a leader without a majority grants no lease"},
	{"lease not waited for", "the leader waits until the lease is over by its own clock"},
	{"one proof is enough", "a dead node can neither write nor answer: two proofs"},
	{"epoch ignored", "what is of an old epoch is refused"},
	{"yesterday's leader decides", "what a leader decided counts in its term alone, and only while a majority follows"},
	{"vote right after the start", "a voter that has just started gives no vote: it may have acknowledged a leader just before"},
	{"append without flush", "what was acknowledged is durable"},
	{"header before area", "a log turns to a new area only when that is durable"},
	{"window skipped", "a host is fenced only when its block stood still for a whole window"},
	{"target runs unasked", "the two ends of a migration never run both"},
	{"unknown is no", "only the answer to the proposal decides where a migrated machine is"},
	{"generation ignored", "rule 1: a witness that hears of a newer generation ends"},
	{"failed write acknowledged", "rule 2: after a failed write the witness is thrown away"},
	{"unconfirmed witness speaks", "rule 3: the witness answers nothing that its LUN has not confirmed"},
	{"hard state left out", "rule 4: the latest hard state goes with every batch of entries"},
	{"hard state before entries", "rule 5: one atomic record for each batch"},
	{"witness without database", "rule 6: the witness is a whole replica"},
	{"format ahead of a node", "the database moves on to a format only when every node can it"},
	{"leader removed", "rule 7: the leader is neither removed nor demoted"},
}

// maxSeeds is within how many seeds each mutant must be caught.
const maxSeeds = 150

func TestMutantsAreCaught(t *testing.T) {
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			mutant.Alive = m.name
			defer func() { mutant.Alive = "" }()
			began := time.Now()
			for seed := uint64(1); seed <= maxSeeds; seed++ {
				if r := Run(Options{Seed: seed}); r.Violation != nil {
					t.Logf("%s: caught by %s with %d seeds, after %v of the last, in %v", m.rule, r.Violation.Checker, seed, r.Violation.At.Round(time.Second), time.Since(began).Round(time.Millisecond))
					return
				}
			}
			t.Errorf("%s: not caught with %d seeds", m.rule, maxSeeds)
		})
	}
}
