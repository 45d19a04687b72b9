// Package mutant breaks the product on purpose, so that the simulator can show that
// its checkers notice. Where a rule stands in the code, its opposite stands beside it
// behind On; without the build tag `mutants` On is the constant false and the
// compiler drops it.
//
// It is imported by whatever has a rule to break, and switched by test/sim. Only one
// mutant lives at a time.
package mutant
