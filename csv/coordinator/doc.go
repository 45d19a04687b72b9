// Package coordinator serves the metadata of a cluster shared volume to the
// clients on all nodes, and alone writes it.
//
// It owns the open volume, the sessions of the nodes, and the tables of leases
// and locks. It is called by noded on the node that coordinates the volume: New
// with the LUN, Serve for each connection, Evict when a node was fenced, and
// Relinquish to hand the volume over. It never decides who coordinates, never
// fences, and moves no file data, except that it zeroes the edges of what is
// punched out, and reads and writes for nodes that have lost their path.
//
// How it works: each request has a goroutine, which waits under one lock until
// nothing stands against it (the grace period, leases of others, a lock), changes
// the volume in memory, and queues its answer behind the journal: no answer
// leaves before what it rests on is durable. One goroutine writes the journal, a
// record for all that came in meanwhile.
//
// A new coordinator waits for every node that the volume's own list of sessions
// names, until that node has come back and claimed what it holds, or is evicted.
// There is no time limit: only the cluster can know that a node is gone.
//
// A file that grows is given space ahead. What nobody asked for is taken back when nobody
// has the file open any more; of what an earlier coordinator gave, nobody knows that.
//
// Traps: a broken connection changes nothing about what its node holds. Answers
// and recalls to one client go out in the order in which they were decided;
// clients rely on it.
package coordinator
