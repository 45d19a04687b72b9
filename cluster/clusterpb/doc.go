// Package clusterpb is the replicated database's wire form: its state, its
// commands and their results, generated from cluster.proto. Package cluster
// alone gives them meaning. Nothing is written here by hand.
package clusterpb
