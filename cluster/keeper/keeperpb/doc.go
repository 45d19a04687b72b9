// Package keeperpb is the API between clusterd and noded, generated from
// keeper.proto.
//
// It is called by cluster/keeper, and by clusterd, which serves LeaseService. It
// decides nothing.
//
// Traps: none beyond those in keeper.proto.
package keeperpb
