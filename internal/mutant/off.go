//go:build !mutants

package mutant

// On tells whether the product is broken in the way that is named.
func On(string) bool { return false }
