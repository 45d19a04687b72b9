//go:build mutants

package mutant

// Alive names the way in which the product is broken, or is empty. It is set while
// nothing of the product runs.
var Alive string

// On tells whether the product is broken in the way that is named.
func On(name string) bool { return Alive == name }
