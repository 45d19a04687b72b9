// Package stage is where scenarios and end-to-end tests play: a lab with a real
// cluster on it, a machine that writes numbers and says which were acknowledged,
// the faults that the world makes, and a log that reads as a story.
//
// It is called by the tests of test/e2e and test/scenarios. It knows the product
// by its command line alone.
//
// It needs root and what the lab needs. Main skips a package's tests, with the
// reason, where that is missing.
package stage
