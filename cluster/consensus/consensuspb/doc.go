// Package consensuspb is the wire form of raft's log records and of the frames
// between nodes, generated from consensus.proto. Package consensus alone uses it.
package consensuspb
