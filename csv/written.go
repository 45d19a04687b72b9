package csv

// Written is what a client has written to a file and its coordinator may not have
// recorded: N blocks from block File on, which lie at block Phys of the volume and had
// not been written before, and how long the file is since.
type Written struct {
	Ino, File, Phys uint64
	// N is 0 where only the file's end moved.
	N uint32
	// Size is in bytes, 0 where the file got no longer.
	Size int64
	// Mtime is in nanoseconds since 1970.
	Mtime int64
}
