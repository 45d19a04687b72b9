// Package nfs tries on a real NFS server and on real clients of it what otherwise is
// tried on imitations: which mounts guard a witness, how a lock is lost and kept, and
// directories as volumes.
//
// It boots Debian's cloud kernel in QEMU, for the tests' own host may have no NFS. There
// everything is in one machine: the kernel's nfsd in the first network namespace, and
// clients in others, each with a host name and a cable of its own that can be pulled.
// The package's own test binary is the program that runs there, and `make test-nfs`
// the way to run it.
//
// Traps: the server knows leases and grace periods of ten seconds and more, so nothing
// here is quick. The kernel identifies a client by its host name: two of the same name
// are one to the server.
package nfs
