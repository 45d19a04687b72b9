package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"quorate/test/stage"
)

// TestSensitivityChangesUnderway: a cluster that runs goes over to other timings and
// back, and nobody is taken for dead; at fast a dead leader is replaced sooner.
func TestSensitivityChangesUnderway(t *testing.T) {
	s := stage.Raise(t, 3)
	s.Create()
	for _, name := range []string{"wan", "fast", "normal", "fast"} {
		began := time.Now()
		s.Must("s2", "cluster", "set", "--sensitivity", name)
		s.Tell("the sensitivity is %s, after %.1f s", name, time.Since(began).Seconds())
		var c struct {
			Sensitivity string
			Pending     []string
		}
		s.Check(json.Unmarshal([]byte(s.Must("s3", "cluster", "show", "-o", "json")), &c))
		if c.Sensitivity != name || len(c.Pending) > 0 {
			t.Fatalf("%+v", c)
		}
	}
	if _, errs, code := s.Ctl("s1", "cluster", "set", "--sensitivity", "hasty"); code != 2 {
		t.Fatalf("%d: %s", code, errs)
	}
	for _, kind := range []string{"node-down", "group-moved"} {
		if list := events(s, "s1", kind); len(list) > 0 {
			t.Fatalf("the change cost: %v", list)
		}
	}
	q, err := s.QuorumOf("s1")
	s.Check(err)
	dead := q.Leader
	other := s.Other(dead)
	s.Kill(dead)
	began := time.Now()
	s.Eventually("another leads", func() error {
		q, err := s.QuorumOf(other)
		if err == nil && (q.Stale || q.Leader == dead || q.Leader == "") {
			err = fmt.Errorf("stale %v, %q leads", q.Stale, q.Leader)
		}
		return err
	})
	s.Tell("another leads after %d ms", time.Since(began).Milliseconds())
}
