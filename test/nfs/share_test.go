package nfs

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/disk/journal"
	"quorate/quorum"
	"quorate/quorum/witness"
)

const (
	clusterID = "c7a2b6f0-5d5e-4a53-9f0a-000000000001"
	voterID   = 1 << 32
)

// share is a witness's, seen from a client and checked as the product checks it.
func (c *client) share(unique string) *witness.Share {
	return witness.NewShare(witness.ShareOptions{Folder: witness.NewFolder(filepath.Join(c.dir, "share"), clusterID, unique), ClusterID: clusterID})
}

// voter is one that only keeps a log.
type voter struct {
	witness.Hosted
	j       *journal.Journal
	kept    string
	stopped atomic.Bool
	done    chan struct{}
}

func (v *voter) Done() <-chan struct{} { return v.done }
func (v *voter) Err() error            { return nil }
func (v *voter) Stop()                 { v.stopped.Store(true) }

// says acknowledges a record: it is durable, and the place confirms.
func (v *voter) says(ctx context.Context, record string) error {
	if err := v.j.Append(ctx, []byte(record)); err != nil {
		return err
	}
	return v.Confirm(ctx)
}

// host is a node that watches the witness, with the timing of a cluster as it is at first.
type host struct {
	*witness.Host
	begun chan *voter
}

func (c *client) host(t *testing.T, unique string, leader *atomic.Uint64) host {
	t.Helper()
	p, err := cluster.ProfileNamed("normal")
	must(t, err)
	h := host{begun: make(chan *voter, 100)}
	node := uint64(c.number)
	h.Host = witness.StartHost(witness.Options{
		ClusterID: clusterID, Voter: voterID, Node: node, Every: p.WitnessBeat, Log: zap.NewNop(),
		Timing: quorum.Timing{Window: p.Challenge, MaxGap: p.Challenge},
		Open:   c.share(unique).Open,
		Situation: func() quorum.Situation {
			return quorum.Situation{Self: node, Leader: leader.Load(), Wanted: true}
		},
		Start: func(w witness.Hosted) (witness.Instance, error) {
			v := &voter{Hosted: w, done: make(chan struct{})}
			j, kept, err := journal.Open(t.Context(), w.Device, w.Journal)
			if errors.Is(err, journal.ErrForeign) {
				j, err = journal.Create(t.Context(), w.Device, w.Journal, nil)
			}
			if err != nil {
				return nil, err
			}
			var records []string
			for _, r := range kept.Records {
				records = append(records, string(r))
			}
			v.j, v.kept = j, strings.Join(records, " ")
			h.begun <- v
			return v, nil
		},
	})
	t.Cleanup(h.Stop)
	return h
}

// hosts waits until a node hosts the witness, and has a voter that read these records.
func (h host) hosts(t *testing.T, records string) *voter {
	t.Helper()
	select {
	case v := <-h.begun:
		if v.kept != records {
			t.Fatalf("generation %d has %q, and should have %q", v.Generation, v.kept, records)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("it does not host the witness: %+v", h.Status())
		return nil
	}
}

// shareChangesHands: a host that is cut off the file server keeps the witness until its
// lease there is over. The next one has all that it acknowledged, and what it writes
// when it is back counts no more.
func shareChangesHands(t *testing.T, a, b *client) {
	must(t, a.share("hands").Format(t.Context(), 0))
	var leader atomic.Uint64
	leader.Store(uint64(a.number))
	onA, onB := a.host(t, "hands", &leader), b.host(t, "hands", &leader)
	first := onA.hosts(t, "")
	must(t, first.says(t.Context(), "one"))
	must(t, b.share("hands").Probe(t.Context()))

	a.pull(t)
	leader.Store(0)
	began := time.Now()
	late := make(chan error, 1)
	go func() { late <- first.j.Append(t.Context(), []byte("late")) }()
	second := onB.hosts(t, "one")
	t.Logf("the next host after %v; its takeover took %v", time.Since(began), onB.Status().Took)
	must(t, second.says(t.Context(), "two"))
	until(t, "the old host has noticed", first.stopped.Load)
	a.plug(t)
	t.Log("a late record: ", <-late)
	if err := first.Confirm(t.Context()); err == nil {
		t.Fatal("the old host speaks, and its lock is broken")
	}
	until(t, "the old host watches", func() bool { return onA.Status().State == "watching" })
	leader.Store(uint64(b.number))
	must(t, second.says(t.Context(), "three"))

	onB.Stop()
	leader.Store(uint64(a.number))
	third := onA.hosts(t, "one two three")
	if third.Generation != 3 {
		t.Errorf("generation %d", third.Generation)
	}
}

// shareOutlivesItsServer: while the server restarts nobody hosts the witness; afterwards
// one node does, with all that was acknowledged.
func shareOutlivesItsServer(t *testing.T, s *server, a, b *client) {
	must(t, a.share("server").Format(t.Context(), 0))
	var leader atomic.Uint64
	leader.Store(uint64(a.number))
	onA, onB := a.host(t, "server", &leader), b.host(t, "server", &leader)
	must(t, onA.hosts(t, "").says(t.Context(), "one"))
	s.stop(t)
	until(t, "the host has given up", func() bool { return onA.Status().State == "unreachable" })
	s.start(t)
	began := time.Now()
	var next *voter
	select {
	case next = <-onA.begun:
	case next = <-onB.begun:
	case <-time.After(patience):
		t.Fatalf("nobody hosts the witness: %+v, %+v", onA.Status(), onB.Status())
	}
	t.Logf("hosted again, generation %d, %v after the server was back", next.Generation, time.Since(began))
	if next.kept != "one" {
		t.Errorf("it has %q", next.kept)
	}
	must(t, next.says(t.Context(), "two"))
}

// sameNameIsRefused: two clients of one host name are one to the server, which drops the
// locks of the one when it meets the other.
func sameNameIsRefused(t *testing.T, a, twin *client) {
	must(t, a.share("twins").Format(t.Context(), 0))
	place, err := a.share("twins").Open(t.Context())
	must(t, err)
	defer place.Close()
	_, err = place.Take(t.Context(), quorum.Beat{})
	must(t, err)
	twin.mount(t, "share", plain, 0)
	if err := twin.share("twins").Probe(t.Context()); !errors.Is(err, witness.ErrUnguarded) {
		t.Errorf("a node of the same host name: %v", err)
	} else {
		t.Log(err)
	}
}
