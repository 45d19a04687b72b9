package sim

import "quorate/migration"

// migrationCheck: a migration ends with the machine on one node, running if it was
// said to run. That it never runs on both is machineCheck's.
type migrationCheck struct{ w *world }

// ended is called when the source's end is over.
func (c *migrationCheck) ended(x *sourceEnd) {
	here := !x.m.p.dead && (x.m.running || x.m.p.still)
	t := x.k.target.m
	switch {
	case x.outcome == migration.Stayed && !here && !x.m.p.dead && x.started:
		c.w.fail("migration", "the move of %s is said to have left it on %s, and there it is %v", x.act.Group, x.c.n.name, x.m.runState())
	case x.outcome == migration.Moved && here:
		c.w.fail("migration", "%s is said to have moved, and is still on %s", x.act.Group, x.c.n.name)
	case x.outcome == migration.Moved && (t == nil || !t.ran):
		c.w.fail("migration", "%s is said to have moved, and never ran on its target", x.act.Group)
	}
}
