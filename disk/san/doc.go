// Package san is the SAN as one node sees it: the node's name as an initiator,
// the targets that it keeps (favourites), their LUNs with what lies on each, and
// the steps of a test on a LUN for the validation (Probe).
//
// It is called by the node's API: `san discover`, `login`, `list`, the creation
// of a cluster, and validation. It never decides which LUN the cluster uses, and
// keeps no session open but those of a probe, for at most ProbeIdle.
//
// Traps: two sessions of one initiator name, LUN and purpose end each other;
// scans here take a purpose of their own each. CHAP secrets lie in san.yaml in
// clear, mode 0600, as an initiator needs them. A probe preempts and clears
// keys: it refuses a LUN that bears data or another's key.
package san
