package nfs

import "testing"

// plain is how an administrator mounts, with an earlier end to what waits for a server
// that is away.
const plain = "vers=4.2,hard,timeo=50,retrans=2"

// inside is all that is tried in the machine. Where the server restarts, nothing else
// may be under way.
func inside(t *testing.T) {
	s := &server{}
	s.start(t)
	a, b, twin := newClient(t, 1, "a"), newClient(t, 2, "b"), newClient(t, 3, "a")
	t.Run("Mounts", func(t *testing.T) { mounts(t, a) })
	a.mount(t, "share", plain, 0)
	b.mount(t, "share", plain, 0)
	t.Run("LocksEndWithTheirHolder", func(t *testing.T) { locksEndWithTheirHolder(t, a, b) })
	t.Run("DirectoryIsTested", func(t *testing.T) { directoryIsTested(t, a, b) })
	t.Run("LockIsBrokenAndLost", func(t *testing.T) { lockIsBrokenAndLost(t, a, b) })
	t.Run("ShareChangesHands", func(t *testing.T) { shareChangesHands(t, a, b) })
	t.Run("LockIsReclaimed", func(t *testing.T) { lockIsReclaimed(t, s, a, b) })
	t.Run("LostLockIsNotReclaimed", func(t *testing.T) { lostLockIsNotReclaimed(t, s, a, b) })
	t.Run("ShareOutlivesItsServer", func(t *testing.T) { shareOutlivesItsServer(t, s, a, b) })
	t.Run("ClusterOnAShare", func(t *testing.T) { clusterOnAShare(t, a, b) })
	t.Run("SameNameIsRefused", func(t *testing.T) { sameNameIsRefused(t, a, twin) })
}
