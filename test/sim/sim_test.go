package sim

import (
	"flag"
	"testing"
	"time"
)

var seed = flag.Uint64("seed", 1, "seed")
var count = flag.Int("seeds", 1, "how many")
var length = flag.Duration("length", DefaultLength, "of a run")

func TestSeed(t *testing.T) {
	for i := range *count {
		began := time.Now()
		r := Run(Options{Seed: *seed + uint64(i), Length: *length, Story: *count == 1})
		t.Logf("seed %d: %v simulated in %v, %d faults, %+v, hash %x", r.Seed, r.Simulated, time.Since(began), r.Faults, r.Done, r.Hash)
		if r.Violation != nil {
			t.Errorf("seed %d: %v", r.Seed, r.Violation)
		}
		if *count == 1 {
			t.Log("\n" + r.Text())
		}
	}
}
