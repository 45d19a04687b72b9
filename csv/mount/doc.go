// Package mount shows a cluster shared volume as a file system through FUSE.
//
// It owns the mount and the open handles, and turns each request of the kernel
// into one call of Volume, which is csv/client. It is called by noded. It keeps
// no cache: files are opened with direct I/O and attributes are valid for no
// time at all, so that no node ever shows what another has overwritten. Node
// numbers are inode numbers, and I/O is served by node number, so that a process
// that takes the mount over needs no table of handles; what handles add is the
// list of lock owners to release.
//
// What is not offered, and what it answers: mmap with MAP_SHARED (ENODEV; a private
// mapping shows what was written before it was made), access control lists and
// capabilities of programs (EOPNOTSUPP), O_TMPFILE (EOPNOTSUPP).
//
// Traps: a process that has the mount open and is killed does not die before its
// requests have been answered; noded therefore kills first and then aborts the
// client. Closing a file sends no unlock for OFD locks: they go with RELEASE.
// Files on a mount must not be used by the process that serves it. A process that takes
// over may be asked again for what the last one had done and not answered: what changes
// something is done on behalf of the kernel's request (Options.From), and handles are
// noted before they are told (Keep). Only a write in place may be done twice: until it is
// answered it may take effect at any time.
package mount
