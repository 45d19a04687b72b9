package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
)

const members = 3

// bench is a lab with both systems on it.
type bench struct {
	settings
	lab  *lab.Lab
	dir  string
	self string
	etcd sync.WaitGroup
}

// timing is one setting of both systems' timers.
type timing struct {
	name string
	// sensitivity is Quorate's, beat and election are etcd's, in milliseconds.
	sensitivity    string
	beat, election int
}

// timings are those whose failovers are compared: Quorate's two, etcd's own and
// etcd set to the same.
func timings() []timing {
	return []timing{
		{name: "normal; etcd by default", sensitivity: "normal", beat: 100, election: 1000},
		{name: "normal; etcd set alike", sensitivity: "normal", beat: 150, election: 1500},
		{name: "fast; etcd set alike", sensitivity: "fast", beat: 50, election: 500},
	}
}

func run(ctx context.Context, s settings) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for i, t := range timings() {
		if err := one(ctx, s, self, t, i == 0); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if s.kills == 0 {
			return nil
		}
	}
	return nil
}

// one measures with one timing, on a lab of its own; commits are measured with
// the first alone, for timers do not change them.
func one(ctx context.Context, s settings, self string, t timing, commits bool) error {
	dir, err := os.MkdirTemp("/var/tmp", "qb")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l, err := lab.Up(ctx, lab.Options{Name: filepath.Base(dir), Dir: filepath.Join(dir, "lab"), Nodes: members})
	if err != nil {
		return err
	}
	b := &bench{settings: s, lab: l, dir: dir, self: self}
	defer func() {
		_ = l.Down()
		b.etcd.Wait()
	}()
	if err := b.begin(ctx, t); err != nil {
		return err
	}
	if commits {
		if err := b.commits(ctx); err != nil {
			return err
		}
	}
	if s.kills == 0 {
		return nil
	}
	return b.failovers(ctx, t)
}

// begin founds the cluster and starts etcd.
func (b *bench) begin(ctx context.Context, t timing) error {
	args := []string{"create", "--name", "bench", "--portal", lab.Portal}
	for _, n := range b.lab.Nodes() {
		if err := b.eventually(ctx, "clusterd answers", func() error { _, err := b.exec(ctx, n, "clusterctl", "version"); return err }); err != nil {
			return err
		}
		args = append(args, "--node", n)
	}
	if _, err := b.exec(ctx, "s1", append([]string{"clusterctl"}, args...)...); err != nil {
		return err
	}
	if t.sensitivity != "normal" {
		if _, err := b.exec(ctx, "s1", "clusterctl", "cluster", "set", "--sensitivity", t.sensitivity); err != nil {
			return err
		}
	}
	for _, n := range b.lab.Nodes() {
		b.startEtcd(ctx, n, t, "new")
	}
	return b.ready(ctx)
}

func address(node string) string { return "192.168.101.1" + strings.TrimPrefix(node, "s") }

// startEtcd starts a member, which ends with its node.
func (b *bench) startEtcd(ctx context.Context, node string, t timing, state string) {
	var peers []string
	for _, n := range b.lab.Nodes() {
		peers = append(peers, fmt.Sprintf("%s=https://%s:2380", n, address(n)))
	}
	argv := []string{
		"etcd", "--name", node, "--data-dir", filepath.Join(b.lab.NodeDir(node), "etcd"), "--log-level", "error",
		"--listen-peer-urls", "https://" + address(node) + ":2380", "--initial-advertise-peer-urls", "https://" + address(node) + ":2380", "--peer-auto-tls",
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL,
		"--initial-cluster", strings.Join(peers, ","), "--initial-cluster-state", state,
		"--heartbeat-interval", fmt.Sprint(t.beat), "--election-timeout", fmt.Sprint(t.election), "--quota-backend-bytes", fmt.Sprint(4 << 30),
	}
	log, err := os.OpenFile(filepath.Join(b.dir, "etcd-"+node+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return // it then shows that etcd does not answer
	}
	b.etcd.Go(func() {
		defer log.Close()
		_, _ = b.lab.Exec(ctx, node, argv, box.Stdio{Out: log, Err: log})
	})
}

// ready waits until both systems have a leader and all members.
func (b *bench) ready(ctx context.Context) error {
	for _, system := range systems {
		if err := b.eventually(ctx, system+" has a leader", func() error { _, err := b.leader(ctx, system); return err }); err != nil {
			return err
		}
		for _, n := range b.lab.Nodes() {
			if err := b.eventually(ctx, system+" commits on "+n, func() error {
				r, err := b.load(ctx, n, "-system", system, "-each", "2s", "-until-first")
				if err == nil && r.Commits == 0 {
					err = errors.New(r.Error)
				}
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

var systems = []string{"quorate", "etcd"}

// exec runs a command on a node and returns what it printed.
func (b *bench) exec(ctx context.Context, node string, argv ...string) ([]byte, error) {
	var out, errs bytes.Buffer
	code, err := b.lab.Exec(ctx, node, argv, box.Stdio{Out: &out, Err: &errs})
	if err == nil && code != 0 {
		err = fmt.Errorf("status %d: %s%s", code, bytes.TrimSpace(out.Bytes()), bytes.TrimSpace(errs.Bytes()))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", node, strings.Join(argv, " "), err)
	}
	return out.Bytes(), nil
}

// load runs this program as a client on a node.
func (b *bench) load(ctx context.Context, node string, args ...string) (r report, err error) {
	out, err := b.exec(ctx, node, append([]string{b.self, loadCommand}, args...)...)
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// leader is the node that leads a system.
func (b *bench) leader(ctx context.Context, system string) (string, error) {
	if system == "quorate" {
		return b.quorateLeader(ctx)
	}
	for _, n := range b.lab.Nodes() {
		if r, err := b.load(ctx, n, "-leads", "-each", "2s"); err == nil && r.Commits == 1 {
			return n, nil
		}
	}
	return "", errors.New("no etcd says that it leads")
}

// quorateLeader is the cluster's, once all its nodes are up.
func (b *bench) quorateLeader(ctx context.Context) (string, error) {
	var status struct {
		Stale bool
		Nodes []struct{ Name, State string }
	}
	var quorum struct{ Leader string }
	for into, argv := range map[any][]string{&status: {"status"}, &quorum: {"quorum", "show"}} {
		out, err := b.exec(ctx, b.lab.Nodes()[0], append(append([]string{"clusterctl"}, argv...), "-o", "json")...)
		if err == nil {
			err = json.Unmarshal(out, into)
		}
		if err != nil {
			return "", err
		}
	}
	for _, n := range status.Nodes {
		if n.State != "up" {
			return "", fmt.Errorf("%s is %s", n.Name, n.State)
		}
	}
	if status.Stale || quorum.Leader == "" {
		return "", errors.New("nobody leads")
	}
	return quorum.Leader, nil
}

func (b *bench) eventually(ctx context.Context, what string, ok func() error) error {
	const limit = time.Minute
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if err = ok(); err == nil {
			return nil
		}
	}
	return errors.Join(ctx.Err(), fmt.Errorf("after %v not: %s: %w", limit, what, err))
}

// commits measures how long commits take and how many there can be.
func (b *bench) commits(ctx context.Context) error {
	type figures struct{ p50, p99, rate []float64 }
	fmt.Printf("commits of %d bytes, %d members, %d rounds of %v; medians\n", b.value, members, b.rounds, b.each)
	fmt.Printf("%-16s %-10s %10s %10s %12s\n", "clients", "", "p50 ms", "p99 ms", "commits/s")
	kinds := []struct{ clients, rate int }{{1, 0}, {b.clients, 0}}
	if b.rate > 0 {
		kinds = append(kinds, struct{ clients, rate int }{b.clients, b.rate})
	}
	for _, kind := range kinds {
		clients := fmt.Sprint(kind.clients)
		if kind.rate > 0 {
			clients += fmt.Sprintf(" at %d/s", kind.rate)
		}
		got := map[string]*figures{"quorate": {}, "etcd": {}}
		for range b.rounds {
			for _, system := range systems {
				lead, err := b.leader(ctx, system)
				if err != nil {
					return err
				}
				r, err := b.load(ctx, lead, "-system", system, "-clients", fmt.Sprint(kind.clients), "-rate", fmt.Sprint(kind.rate), "-value", fmt.Sprint(b.value), "-each", b.each.String())
				if err != nil {
					return err
				}
				if r.Failed > 0 || r.Commits == 0 {
					return fmt.Errorf("%s: %d commits failed, the last by: %s", system, r.Failed, r.Error)
				}
				f := got[system]
				f.p50, f.p99 = append(f.p50, float64(r.P50us)/1000), append(f.p99, float64(r.P99us)/1000)
				f.rate = append(f.rate, float64(r.Commits)/r.Seconds)
			}
		}
		q, e := got["quorate"], got["etcd"]
		for _, system := range systems {
			f := got[system]
			fmt.Printf("%-16s %-10s %10.2f %10.2f %12.0f\n", clients, system, median(f.p50), median(f.p99), median(f.rate))
		}
		fmt.Printf("%-16s %-10s %10.2f %10.2f %12.2f\n", clients, "ratio", median(q.p50)/median(e.p50), median(q.p99)/median(e.p99), median(q.rate)/median(e.rate))
	}
	return nil
}

// failovers kills the leaders, and measures how soon the next commit is there.
func (b *bench) failovers(ctx context.Context, t timing) error {
	fmt.Printf("from the leader's death to the next commit: %s (etcd %d/%d ms), %d each\n", t.name, t.beat, t.election, b.kills)
	got := map[string][]float64{}
	for range b.kills {
		for _, system := range systems {
			took, err := b.failover(ctx, system, t)
			if err != nil {
				return err
			}
			got[system] = append(got[system], took.Seconds())
		}
	}
	for _, system := range systems {
		s := slices.Clone(got[system])
		slices.Sort(s)
		fmt.Printf("%-12s %8.2f s median, %.2f to %.2f\n", system, median(s), s[0], s[len(s)-1])
	}
	fmt.Printf("%-12s %8.2f\n", "ratio", median(got["quorate"])/median(got["etcd"]))
	return nil
}

func (b *bench) failover(ctx context.Context, system string, t timing) (time.Duration, error) {
	lead, err := b.leader(ctx, system)
	if err != nil {
		return 0, err
	}
	i := slices.Index(b.lab.Nodes(), lead)
	other := b.lab.Nodes()[(i+1)%members]
	if err := b.lab.Kill(ctx, lead); err != nil {
		return 0, err
	}
	died := time.Now()
	r, err := b.load(ctx, other, "-system", system, "-each", "30s", "-until-first")
	if err != nil {
		return 0, err
	}
	if r.Commits == 0 {
		return 0, fmt.Errorf("%s: nothing was committed within 30 s of the death of %s: %s", system, lead, r.Error)
	}
	if err := b.lab.Start(ctx, lead); err != nil {
		return 0, err
	}
	b.startEtcd(ctx, lead, t, "existing")
	return time.Unix(0, r.FirstNs).Sub(died), b.ready(ctx)
}

func median(v []float64) float64 {
	s := slices.Clone(v)
	slices.SortFunc(s, cmp.Compare[float64])
	return s[len(s)/2]
}
