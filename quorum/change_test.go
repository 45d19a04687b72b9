package quorum

import (
	"slices"
	"testing"
	"testing/quick"
)

// apply does a step to a configuration, as raft does: first the joint one, where
// several votes change, then the new one.
func apply(c Configuration, step []Change) (joint, after Configuration) {
	after = Configuration{Voters: slices.Clone(c.Voters), Learners: slices.Clone(c.Learners)}
	for _, ch := range step {
		gone := func(id uint64) bool { return id == ch.ID }
		after.Voters, after.Learners = slices.DeleteFunc(after.Voters, gone), slices.DeleteFunc(after.Learners, gone)
		switch ch.Kind {
		case AddLearner, Demote:
			after.Learners = append(after.Learners, ch.ID)
		case Promote:
			after.Voters = append(after.Voters, ch.ID)
		}
	}
	joint = after
	if len(step) > 1 {
		joint.Outgoing = slices.Clone(c.Voters)
	}
	slices.Sort(after.Voters)
	return joint, after
}

// TestChangesReachWhatIsWanted walks random configurations to random wishes: it
// arrives, and never removes the leader.
func TestChangesReachWhatIsWanted(t *testing.T) {
	subset := func(bits uint8) (s []uint64) {
		for i := range uint64(6) {
			if bits>>i&1 == 1 {
				s = append(s, i+1)
			}
		}
		return s
	}
	check := func(now, want, lead uint8) bool {
		voters, wish := subset(now|1), subset(want|2)
		v := View{Now: Configuration{Voters: voters}, Leader: voters[int(lead)%len(voters)], Members: wish, Voters: wish, Ready: map[uint64]bool{}}
		for id := range uint64(7) {
			v.Ready[id] = true
		}
		for range 40 {
			step := Next(v)
			if len(step) == 0 {
				return slices.Equal(v.Now.Voters, wish) && len(v.Now.Learners) == 0
			}
			if step[0].Kind == Transfer {
				heir := step[0].ID
				if heir == v.Leader || !slices.Contains(v.Now.Voters, heir) || !slices.Contains(wish, heir) {
					return false
				}
				v.Leader = heir
				continue
			}
			if slices.ContainsFunc(step, func(c Change) bool { return c.ID == v.Leader }) {
				return false
			}
			joint, after := apply(v.Now, step)
			if v.Now = joint; len(joint.Outgoing) > 0 && Next(v) != nil {
				return false // a second step before the first is done
			}
			v.Now = after
		}
		return false
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 5000}); err != nil {
		t.Error(err)
	}
}

func TestNewMemberGetsNoVoteBeforeItHasCaughtUp(t *testing.T) {
	v := View{Now: Configuration{Voters: []uint64{1}, Learners: []uint64{2}}, Leader: 1, Members: []uint64{1, 2}, Voters: []uint64{1, 2}, Ready: map[uint64]bool{}}
	if c := Next(v); c != nil {
		t.Fatalf("got %+v", c)
	}
	v.Ready[2] = true
	if c := Next(v); !slices.Equal(c, []Change{{Promote, 2}}) {
		t.Fatalf("got %+v", c)
	}
}

func TestVoteIsNotTakenWhereItWouldStopTheCluster(t *testing.T) {
	v := View{Now: Configuration{Voters: []uint64{1, 2, 3}}, Leader: 1, Members: []uint64{1, 2}, Voters: []uint64{1, 2}, Ready: map[uint64]bool{3: true}}
	if c := Next(v); c != nil {
		t.Fatalf("2 is not heard, yet 3 loses its vote: %+v", c)
	}
}

// TestModesChangeWithoutAWeakerMoment walks between all modes, with all members
// there: no step is survived by fewer losses than before or after.
func TestModesChangeWithoutAWeakerMoment(t *testing.T) {
	for nodes := 2; nodes <= 6; nodes++ {
		for _, from := range Modes() {
			for _, to := range Modes() {
				c := newCluster(t, nodes, from)
				before := c.standing().Survives()
				c.here[witness] = true
				c.mode = to
				least := c.walk()
				if after := c.standing().Survives(); least < min(before, after) {
					c.fail("%d nodes, %s to %s: %d losses are survived on the way, %d before, %d after", nodes, from, to, least, before, after)
				}
			}
		}
	}
}

// TestStandingIsWhatCountingSays compares with trying every set of losses.
func TestStandingIsWhatCountingSays(t *testing.T) {
	check := func(voters, outgoing, here uint8) bool {
		set := func(bits uint8) (s []uint64) {
			for i := range uint64(6) {
				if bits>>i&1 == 1 {
					s = append(s, i+1)
				}
			}
			return s
		}
		s := Standing{Now: Configuration{Voters: set(voters | 1), Outgoing: set(outgoing)}, Here: map[uint64]bool{}}
		for _, id := range set(here) {
			s.Here[id] = true
		}
		majority := func(half []uint64, lost uint8) bool {
			have := 0
			for _, id := range half {
				if s.Here[id] && lost>>(id-1)&1 == 0 {
					have++
				}
			}
			return 2*have > len(half) || len(half) == 0
		}
		stands := func(lost uint8) bool { return majority(s.Now.Voters, lost) && majority(s.Now.Outgoing, lost) }
		if stands(0) != s.Stands() {
			return false
		}
		survives := 6
		var fatal []uint64
		for lost := range uint8(64) {
			n := len(set(lost & here))
			if !stands(lost) {
				survives = min(survives, max(n-1, 0))
				if n == 1 && stands(0) {
					fatal = append(fatal, set(lost&here)...)
				}
			}
		}
		slices.Sort(fatal)
		return s.Survives() == survives && slices.Equal(slices.Compact(fatal), s.Fatal())
	}
	if err := quick.Check(check, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
}
