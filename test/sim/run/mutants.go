//go:build mutants

package main

import (
	"flag"

	"quorate/internal/mutant"
)

// With the build tag `mutants` the product can be broken: see test/sim.
func init() {
	flag.StringVar(&mutant.Alive, "mutant", "", "the way in which the product is broken")
}
