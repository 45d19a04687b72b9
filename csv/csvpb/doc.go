// Package csvpb is what the clients of a cluster shared volume and its
// coordinator say to each other, generated from csv.proto, and how it is framed.
//
// It is called by csv/coordinator and csv/client, and decides nothing.
//
// Traps: a frame's length comes from the other end; Read bounds it.
package csvpb
