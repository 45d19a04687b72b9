package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
	"quorate/test/bench/consensus/etcdpb"
)

// loadCommand is the argument by which the program runs as a client, in a node.
const loadCommand = "load"

// report is what a client's run prints.
type report struct {
	Commits int64   `json:"commits"`
	Seconds float64 `json:"seconds"`
	P50us   int64   `json:"p50_us"`
	P99us   int64   `json:"p99_us"`
	// FirstNs is when the first commit that began after the start was done, by
	// the machine's clock, for -until-first.
	FirstNs int64  `json:"first_ns"`
	Failed  int64  `json:"failed"`
	Error   string `json:"error,omitempty"` // the last one
}

// commit makes one value durable.
type commit func(ctx context.Context) error

// etcdClient speaks to the etcd of the node.
func etcdClient() *http.Client {
	t := &http.Transport{Protocols: new(http.Protocols)}
	t.Protocols.SetUnencryptedHTTP2(true)
	t.DialContext = (&net.Dialer{Timeout: time.Second}).DialContext
	return &http.Client{Transport: t}
}

const etcdURL = "http://127.0.0.1:2379"

// committer makes a client of a system.
func committer(system string, n, value int) (commit, error) {
	switch system {
	case "quorate":
		c := client.Local("")
		text := strings.Repeat("v", value)
		return func(ctx context.Context) error {
			_, err := c.Cluster.EventAdd(ctx, connect.NewRequest(&apipb.EventAddRequest{Text: text}))
			return err
		}, nil
	case "etcd":
		c := connect.NewClient[etcdpb.PutRequest, etcdpb.PutResponse](etcdClient(), etcdURL+"/etcdserverpb.KV/Put", connect.WithGRPC())
		put := &etcdpb.PutRequest{Key: fmt.Appendf(nil, "key-%d", n), Value: []byte(strings.Repeat("v", value))}
		return func(ctx context.Context) error {
			_, err := c.CallUnary(ctx, connect.NewRequest(put))
			return err
		}, nil
	}
	return nil, fmt.Errorf("there is no system %q", system)
}

// etcdLeads tells whether the node's etcd leads.
func etcdLeads(ctx context.Context) (bool, error) {
	c := connect.NewClient[etcdpb.StatusRequest, etcdpb.StatusResponse](etcdClient(), etcdURL+"/etcdserverpb.Maintenance/Status", connect.WithGRPC())
	res, err := c.CallUnary(ctx, connect.NewRequest(&etcdpb.StatusRequest{}))
	if err != nil {
		return false, err
	}
	return res.Msg.Leader != 0 && res.Msg.Leader == res.Msg.Header.GetMemberId(), nil
}

// load is the program as a client.
func load(args []string) error {
	set := flag.NewFlagSet(loadCommand, flag.ContinueOnError)
	system := set.String("system", "", "")
	clients := set.Int("clients", 1, "")
	value := set.Int("value", 256, "")
	rate := set.Int("rate", 0, "")
	each := set.Duration("each", time.Second, "")
	first := set.Bool("until-first", false, "")
	leads := set.Bool("leads", false, "")
	if err := set.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *each)
	defer cancel()
	var r report
	switch {
	case *leads:
		ok, err := etcdLeads(ctx)
		if err != nil {
			return err
		}
		if ok {
			r.Commits = 1
		}
	case *first:
		do, err := committer(*system, 0, *value)
		if err != nil {
			return err
		}
		r = untilFirst(ctx, do)
	default:
		var err error
		if r, err = many(*each, *system, *clients, *value, *rate); err != nil {
			return err
		}
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// many lets clients commit, each one thing after the other, for a time that begins
// when each is connected and has committed once. At a rate, of so many a second, a commit
// is timed from when it was due: whatever falls behind, all that wait show it. What has not
// begun as long again after the end is left out, and shows in how many a second there were.
func many(each time.Duration, system string, clients, value, rate int) (report, error) {
	all := make([][]time.Duration, clients)
	var failed atomic.Int64
	var wg, connected sync.WaitGroup
	var last atomic.Pointer[error]
	start, ctx := make(chan struct{}), context.Background()
	var began, end time.Time
	var due atomic.Int64
	next := func() (time.Time, bool) {
		if rate == 0 {
			now := time.Now()
			return now, now.Before(end)
		}
		at := began.Add(time.Duration(due.Add(1)-1) * time.Second / time.Duration(rate))
		time.Sleep(time.Until(at))
		return at, at.Before(end) && time.Now().Before(end.Add(each))
	}
	for n := range clients {
		do, err := committer(system, n, value)
		if err != nil {
			return report{}, err
		}
		note := func(err error) {
			if err != nil {
				failed.Add(1)
				last.Store(&err)
			}
		}
		connected.Go(func() { note(do(ctx)) })
		wg.Go(func() {
			<-start
			for t, more := next(); more; t, more = next() {
				if err := do(ctx); err != nil {
					note(err)
					continue
				}
				all[n] = append(all[n], time.Since(t))
			}
		})
	}
	connected.Wait()
	began = time.Now()
	end = began.Add(each)
	close(start)
	wg.Wait()
	took := slices.Concat(all...)
	r := report{Commits: int64(len(took)), Seconds: time.Since(began).Seconds(), Failed: failed.Load()}
	if err := last.Load(); err != nil {
		r.Error = (*err).Error()
	}
	if len(took) > 0 {
		slices.Sort(took)
		r.P50us, r.P99us = took[len(took)/2].Microseconds(), took[len(took)*99/100].Microseconds()
	}
	return r, nil
}

// attempt is after how long an unanswered commit is begun anew.
const attempt = 100 * time.Millisecond

// untilFirst tries to commit until it works.
func untilFirst(ctx context.Context, do commit) report {
	var r report
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, attempt)
		err := do(one)
		cancel()
		if err == nil {
			r.Commits, r.FirstNs = 1, time.Now().UnixNano()
			return r
		}
		r.Failed++
		r.Error = err.Error()
	}
	return r
}
