package validate

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"quorate/cluster/api/apipb"
	"quorate/disk/san"
)

const (
	// slowReads is the p99 of single reads above which a LUN is too slow for
	// the profile `normal`.
	slowReads = 20 * time.Millisecond
	// lunTimeout bounds the test of one LUN.
	lunTimeout = 2 * time.Minute
	// cleanTimeout bounds the clearing of keys, also after the run has ended.
	cleanTimeout = 30 * time.Second
)

// tester does the steps of one LUN's test on the nodes that see it.
type tester struct {
	lun     *lun
	session string
}

// step asks a node for one step. An error is one of the call, or the target's.
func (t tester) step(ctx context.Context, n *node, q *apipb.ProbeLunRequest) (*apipb.ProbeLunResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	q.Url, q.Session = n.luns[t.lun.id].Url, t.session
	res, err := n.Node.ProbeLun(ctx, q)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s, %s: %w", n.Name, q.Step, err)
	case res.Error != "":
		return nil, fmt.Errorf("%s, %s: %s", n.Name, q.Step, res.Error)
	}
	return res, nil
}

// key is the one that a node registers in this run.
func (t tester) key(n int) uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(t.session)) // never fails
	return san.ProbeKeys | uint64(h.Sum32()&0xffff)<<16 | uint64(n+1)
}

// testLUN tests one LUN on the nodes that see it, and sets why it is unfit.
func (r *run) testLUN(ctx context.Context, l *lun) {
	r.begin("testing %s", l.name())
	ctx, cancel := context.WithTimeout(ctx, lunTimeout)
	defer cancel()
	h := fnv.New32a()
	_, _ = h.Write([]byte(l.id)) // never fails
	t := tester{l, fmt.Sprintf("%s-%08x", r.opt.Session, h.Sum32())}
	defer t.close(ctx)
	r.checkLatency(ctx, t)
	able := r.checkAbilities(ctx, t)
	c := &apipb.Check{Category: Storage, Name: "Reservations", Subject: l.name(), Result: Skipped}
	switch {
	case l.one.Holds != "":
		c.Text = fmt.Sprintf("the LUN is in use, or was: it bears %s", l.one.Holds)
		c.Advice = "If nothing on it is needed, empty it, or give it to the cluster with --force."
		l.unfit = "it bears " + l.one.Holds
	case able == nil:
		c.Text = "the target's abilities are not known"
		l.unfit = "it could not be tested"
	case !able.Reservations:
		c.Text = "the target has no persistent reservations"
		l.unfit = "it has no persistent reservations"
	case foreignKey(able.Keys) != 0:
		c.Text = fmt.Sprintf("the LUN is in use: key 0x%016x is registered there", foreignKey(able.Keys))
		c.Advice = "It belongs to a cluster. If that is gone, clear its keys on the SAN."
		l.unfit = "another's key is registered there"
	case len(l.seen) < 2:
		c.Text = "it takes two nodes that see the LUN"
	default:
		r.checkReservations(ctx, t)
		return
	}
	r.add(c)
}

// foreignKey is a key that is no probe's, or 0.
func foreignKey(keys []uint64) uint64 {
	i := slices.IndexFunc(keys, func(k uint64) bool { return k>>32 != san.ProbeKeys>>32 })
	if i < 0 {
		return 0
	}
	return keys[i]
}

// checkLatency reads from every node, one after the other.
func (r *run) checkLatency(ctx context.Context, t tester) {
	c := &apipb.Check{
		Category: Storage, Name: "Latency", Subject: t.lun.name(),
		Advice: "Look at the storage network and at the load of the SAN, or use the profile `wan`: the witness must be written within the election timeout.",
	}
	var fine, slow, faults []string
	for _, n := range t.lun.seen {
		res, err := t.step(ctx, n, &apipb.ProbeLunRequest{Step: "latency"})
		if err == nil && len(res.LatencyUs) == 0 {
			err = fmt.Errorf("%s read nothing", n.Name)
		}
		if err != nil {
			faults = append(faults, oneLine(err))
			continue
		}
		p50, p99 := percentile(res.LatencyUs, 50), percentile(res.LatencyUs, 99)
		text := fmt.Sprintf("%s reads a block in %v (p50), %v (p99)", n.Name, p50, p99)
		if fine = append(fine, text); p99 > slowReads {
			slow = append(slow, text)
		}
	}
	c.Result, c.Text = grade(Warning, slow, strings.Join(fine, "; "))
	if len(faults) > 0 {
		c.Result, c.Text = Failed, "the LUN cannot be read: "+strings.Join(faults, "; ")
		c.Advice = "See that every node reaches the SAN, and what the SAN's log says about it."
		t.lun.unfit = "it cannot be read on every node"
	}
	r.add(c)
}

// percentile is of sorted microseconds, by nearest rank.
func percentile(sorted []int64, p int) time.Duration {
	rank := (len(sorted)*p + 99) / 100
	return time.Duration(sorted[max(rank, 1)-1]) * time.Microsecond
}

// checkAbilities asks the target what it can do, and says what is missing. It
// returns nil where no node got an answer.
func (r *run) checkAbilities(ctx context.Context, t tester) *apipb.ProbeLunResponse {
	c := &apipb.Check{Category: Storage, Name: "Abilities", Subject: t.lun.name(), Result: Passed}
	defer r.add(c)
	var able *apipb.ProbeLunResponse
	var faults []string
	for _, n := range t.lun.seen {
		var err error
		if able, err = t.step(ctx, n, &apipb.ProbeLunRequest{Step: "capabilities"}); err == nil {
			break
		}
		faults = append(faults, oneLine(err))
	}
	switch {
	case able == nil:
		c.Result, c.Text = Failed, "the target did not say what it can do: "+strings.Join(faults, "; ")
		c.Advice = "See that every node reaches the SAN, and what the SAN's log says about it."
	case !able.Reservations:
		c.Result, c.Text = Failed, "the target has no persistent reservations (SPC-3): nodes cannot be kept from writing"
		c.Advice = "Use a SAN with SCSI-3 persistent reservations, or switch them on for this LUN."
	case !able.Persist:
		c.Result = Warning
		c.Text = "the target forgets reservations when it restarts (no APTPL)" + abort(able)
		c.Advice = "After a restart of the SAN nodes stop writing until they have registered again, and until then a node that was fenced is kept off by its lease alone. Use a SAN that keeps reservations for what matters."
	default:
		c.Text = "reservations survive a restart of the target" + abort(able)
	}
	return able
}

func abort(able *apipb.ProbeLunResponse) string {
	if able.PreemptAbort {
		return "; PREEMPT AND ABORT is there"
	}
	return "; PREEMPT AND ABORT is missing, and not needed: a fence resets the LUN instead"
}
