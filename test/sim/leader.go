package sim

import "slices"

// leaderCheck: one leader in each term; and it neither loses its vote nor leaves the
// group while it leads: whoever follows it may not know yet that it is gone, and
// wait for it in vain.
type leaderCheck struct {
	w    *world
	of   map[uint64]string
	last map[*voter]uint64 // by voter: the last term in which a majority followed it
}

func (c *leaderCheck) seen(v *voter) {
	st := v.v.Status()
	if st.Term == c.last[v] && st.Term > 0 && !slices.Contains(st.Voters, st.ID) {
		c.w.fail("leader", "%s lost its vote in term %d, in which it leads: voters %v", v.db.by, st.Term, st.Voters)
	}
	if !st.IsLeader {
		return
	}
	if have, ok := c.of[c.w.at(v.c.incarnation, st.Term)]; ok && have != v.db.by {
		c.w.fail("leader", "%s leads in term %d, and so did %s", v.db.by, st.Term, have)
	}
	c.of[c.w.at(v.c.incarnation, st.Term)] = v.db.by
	// Before that it may apply, and bring to its end, what an earlier leader began.
	if !st.LastQuorum.IsZero() && st.Applied >= st.Commit && v.db.term == st.Term && len(st.Outgoing) == 0 {
		c.last[v] = st.Term
	}
}
