package fence

import (
	"testing"
	"time"
)

func TestLease(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	var l Lease
	if l.Valid(0) || l.Remaining(0) != 0 {
		t.Fatal("valid before it was granted")
	}
	until, err := l.Granted(10*s, 200*ms, 3*s)
	if err != nil || until != 12797*ms {
		t.Fatalf("until %v, %v; want 12.797s", until, err)
	}
	for _, c := range []struct {
		at   time.Duration
		want bool
	}{{10 * s, true}, {12796 * ms, true}, {12797 * ms, false}, {20 * s, false}} {
		if got := l.Valid(c.at); got != c.want {
			t.Errorf("valid at %v: %v", c.at, got)
		}
	}
	if until, _ = l.Granted(9*s, 0, 3*s); until != 12797*ms {
		t.Errorf("an older answer changed the end to %v", until)
	}
	if _, err := l.Granted(11*s, -1, 3*s); err == nil {
		t.Error("a negative age was taken")
	}
	if until, _ = l.Granted(11*s, 5*s, 3*s); until != 12797*ms {
		t.Errorf("an answer of a leader that is cut off changed the end to %v", until)
	}
	l.Revoke()
	if l.Valid(11 * s) {
		t.Error("valid after it was revoked")
	}
}

// TestLeaseBehindLeader: whatever the delays, and with clocks that differ by the
// drift, the node's lease ends before the leader takes it for ended.
func TestLeaseBehindLeader(t *testing.T) {
	const duration = 3 * time.Second
	for delay := range 40 {
		for age := range 40 {
			var l Lease
			sent := 100 * time.Second
			answered := sent + time.Duration(delay)*10*time.Millisecond // true time
			ends := answered - time.Duration(age)*10*time.Millisecond + duration
			until, _ := l.Granted(sent, time.Duration(age)*10*time.Millisecond, duration)
			slow := sent + (until-sent)/1e6*(1e6+DefaultDriftPPM-1) // when a slow clock shows until
			if slow > ends {
				t.Fatalf("delay %d, age %d: the node stops at %v, the leader counts on %v", delay, age, slow, ends)
			}
		}
	}
}
