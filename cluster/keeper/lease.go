package keeper

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster/fence"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
)

const (
	// maxAsking is how many rounds of questions may be under way.
	maxAsking = 8
	// drainLimit is how long I/O that was under way when the node was fenced is
	// waited for.
	drainLimit = 300 * time.Millisecond
	// minAsk is the least time that a question is given.
	minAsk = 100 * time.Millisecond
)

// renew asks for the lease once in each heartbeat until ctx ends.
func (k *Keeper) renew(ctx context.Context) {
	var client *http.Client
	var clientOf *trust.Identity
	asking := make(chan struct{}, maxAsking)
	for {
		k.mu.Lock()
		conf, id, changed := k.conf, k.id, k.changed
		want := conf != nil && id != nil && (k.state == waiting || k.state == active)
		k.mu.Unlock()
		if !want {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			continue
		}
		if clientOf != id {
			clientOf = id
			// HTTP/1.1: a question given up closes its connection, so that the
			// next is not sent into a connection that is dead.
			client = &http.Client{Transport: &http.Transport{
				TLSClientConfig: id.ClientTLS(0, "http/1.1"), MaxIdleConnsPerHost: 2, IdleConnTimeout: 10 * time.Second,
			}}
		}
		select {
		case asking <- struct{}{}:
			k.work.Go(func() { defer func() { <-asking }(); k.ask(ctx, client, *conf) })
		default: // all are waiting for answers
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(conf.heartbeat()):
		}
	}
}

// ask asks the leader, or everybody where the leader is not known.
func (k *Keeper) ask(ctx context.Context, client *http.Client, conf config) {
	ctx, cancel := context.WithTimeout(ctx, max(conf.lease()/3, minAsk))
	defer cancel()
	k.mu.Lock()
	leader := k.leader
	k.mu.Unlock()
	if len(leader) == 0 {
		k.askAll(ctx, client, conf, conf.LeasePeers)
		return
	}
	if k.askAll(ctx, client, conf, leader) {
		return
	}
	k.mu.Lock()
	if slices.Equal(k.leader, leader) {
		k.leader = nil
	}
	k.mu.Unlock()
}

// askAll asks at every address at once, so that the loss of one network delays
// nothing, and tells whether the lease was granted at any.
func (k *Keeper) askAll(ctx context.Context, client *http.Client, conf config, addrs []string) bool {
	done := make(chan bool, len(addrs))
	for _, p := range addrs {
		go func() { done <- k.askOne(ctx, client, conf, p) }()
	}
	granted := false
	for range addrs {
		granted = <-done || granted
	}
	return granted
}

// askOne asks one clusterd, and where that one sends it.
func (k *Keeper) askOne(ctx context.Context, client *http.Client, conf config, addr string) bool {
	sent := k.o.Clock()
	r, err := k.question(ctx, client, conf, addr)
	if err == nil && !r.Granted && r.LeaderAddr != "" && r.LeaderAddr != addr {
		addr = r.LeaderAddr
		sent = k.o.Clock()
		r, err = k.question(ctx, client, conf, addr)
	}
	switch {
	case err != nil:
		k.refused(addr + ": " + err.Error())
	case !r.Granted:
		k.refused(addr + ": " + r.Reason)
	default:
		return k.granted(conf, addr, sent, r)
	}
	return false
}

func (k *Keeper) question(ctx context.Context, client *http.Client, conf config, addr string) (*keeperpb.RenewResponse, error) {
	c := keeperpbconnect.NewLeaseServiceClient(client, "https://"+addr)
	r, err := c.Renew(ctx, connect.NewRequest(&keeperpb.RenewRequest{
		ClusterId: conf.ClusterID, NodeId: conf.NodeID, NodeEpoch: conf.NodeEpoch,
	}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

func (k *Keeper) refused(why string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refusal = why
}

// granted takes an answer in, unless the epoch that it is for is over.
func (k *Keeper) granted(conf config, addr string, sent time.Duration, r *keeperpb.RenewResponse) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conf == nil || k.conf.NodeEpoch != conf.NodeEpoch || (k.state != waiting && k.state != active) {
		return false
	}
	duration := time.Duration(r.LeaseMs) * time.Millisecond
	if most := k.conf.lease(); duration == 0 || duration > most {
		// Nobody takes longer than it was told: the others may count on it.
		duration = most
	}
	until, err := k.lease.Granted(sent, time.Duration(r.AgeMs)*time.Millisecond, duration)
	now := k.o.Clock()
	if err != nil || until <= now {
		k.refusal = addr + ": the answer came too late to be of use"
		return false
	}
	if k.state == active && k.until.Load() <= int64(now) {
		return false // it ran out; watch deals with it
	}
	k.until.Store(int64(until))
	k.tellHolder()
	if k.leader = r.LeaderAddrs; len(k.leader) == 0 {
		k.leader = []string{addr}
	}
	k.refusal = ""
	if k.state == waiting {
		k.state, k.reason = active, ""
		k.log.Info("lease granted", zap.Uint64("epoch", conf.NodeEpoch), zap.String("leader", addr))
		k.changedLocked()
	}
	return true
}

// watch sleeps until the lease ends, and then fences the node.
func (k *Keeper) watch(ctx context.Context) {
	for {
		k.mu.Lock()
		changed, on := k.changed, k.state == active
		k.mu.Unlock()
		if !on {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			continue
		}
		left := time.Duration(k.until.Load()) - k.o.Clock()
		if left <= 0 {
			k.mu.Lock()
			why := "the lease ran out; last answer: " + k.refusal
			k.mu.Unlock()
			k.lose(why)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(left):
		}
	}
}

// needLease tells why volumes may not be used now.
func (k *Keeper) needLease() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.state != active || k.permit() != nil {
		return connect.NewError(connect.CodeFailedPrecondition,
			errors.Join(fence.ErrNoLease, errors.New("the node is "+string(k.state)+": "+k.reason+" "+k.refusal)))
	}
	return nil
}
