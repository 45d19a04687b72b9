// Package validate tests whether servers can be a cluster: their networks, what
// they are, and the storage that they share. It finds out by asking the nodes
// themselves, and says of each finding what to do about it.
//
// It is called by the API's Validate, before a cluster is created and on one
// that runs. It changes nothing that lasts: the test of reservations registers
// keys of its own on LUNs that are free, and clears them whatever happens.
//
// Traps: a check that is skipped has found nothing out; its text says why it was.
// One node's error never ends the checks of the others.
package validate
