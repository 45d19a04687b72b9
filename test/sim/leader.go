package sim

// leaderCheck: one leader in each term.
type leaderCheck struct {
	w  *world
	of map[uint64]string
}

func (c *leaderCheck) seen(v *voter) {
	st := v.v.Status()
	if !st.IsLeader {
		return
	}
	if have, ok := c.of[st.Term]; ok && have != v.db.by {
		c.w.fail("leader", "%s leads in term %d, and so did %s", v.db.by, st.Term, have)
	}
	c.of[st.Term] = v.db.by
}
