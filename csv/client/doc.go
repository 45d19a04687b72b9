// Package client uses a cluster shared volume on one node: it reads and writes
// file data directly on the LUN, and asks the coordinator for everything else.
//
// It owns what this node remembers of the volume (attributes and extents under
// leases), its open files and its locks. It is called by csv/mount, one method
// for each operation, and by noded: SetCoordinator when ownership passes, Abort
// when the node's lease is lost. It never decides who coordinates, and never
// registers or fences: the gate in front of the LUN is given to it.
//
// Operations that need the coordinator wait while there is none. Requests have
// numbers and are repeated to the next coordinator, which answers those that the
// last one had done. While the path to the LUN is lost, I/O goes through the
// coordinator, which first ends this node's session at the target. Errors reach the
// caller only where the operation itself is refused, or after Abort.
//
// How I/O and recalls fit together: an operation pins the inode for as long as it
// acts upon what is remembered; a recall is answered when no pin is left. Nobody
// waits for the coordinator with a pin held, except to commit what was written
// under an exclusive lease, which the coordinator takes without waiting itself.
// The reader of the connection installs a grant, and pins it for whoever asked,
// before it looks at the next frame: a grant is always good for one operation.
//
// What is written to space that was never written, or past a file's end, is answered
// when its data is on the LUN, and told to the coordinator soon after, in one request for
// all that came in meanwhile. Until that is recorded the inode is pinned, with the
// exclusive lease: who looks at the file from elsewhere waits for the record. What is not
// recorded is told again to the next coordinator, be it by the next process of the node
// where this one is killed (Keep), and is lost with the node where it was not synced.
// Whatever this node promises about a file (Sync, its length, its times, another name)
// comes after the record.
//
// Traps: everything is guarded by one lock, which is never held during I/O.
package client
