package consensus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/disk/file"
	"quorate/disk/journal"
)

// last remembers nothing but how much it took.
type last struct{ n atomic.Uint64 }

func (l *last) Apply(_, _ uint64, cmd []byte) (uint64, any, error) {
	l.n.Add(1)
	return binary.BigEndian.Uint64(cmd), nil, nil
}
func (l *last) Snapshot() ([]byte, error) { return nil, nil }
func (l *last) Restore([]byte) error      { return nil }

// trio is three voters with logs on real files, over real connections. It returns
// the leader.
func trio(b *testing.B) *Replica {
	b.Helper()
	addrs := map[uint64][]string{}
	listeners := map[uint64]net.Listener{}
	for id := uint64(1); id <= 3; id++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		addrs[id], listeners[id] = []string{l.Addr().String()}, l
		b.Cleanup(func() { l.Close() })
	}
	snap := &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: &raftpb.ConfState{Voters: []uint64{1, 2, 3}}}}
	dir := b.TempDir()
	var first *Replica
	for id := uint64(1); id <= 3; id++ {
		const size = 64 << 20
		dev, err := file.Open(filepath.Join(dir, fmt.Sprint(id)), size)
		if err != nil {
			b.Fatal(err)
		}
		if err := dev.Fill(context.Background()); err != nil {
			b.Fatal(err)
		}
		log, state, err := CreateLog(context.Background(), dev, journal.Options{Size: size, Owner: "bench"}, snap)
		if err != nil {
			b.Fatal(err)
		}
		var r atomic.Pointer[Replica]
		tr := NewTransport(TransportOptions{
			Self: id, KeepAlive: 100 * time.Millisecond, Log: zap.NewNop(),
			Dial: func(ctx context.Context, peer uint64, addr string) (net.Conn, error) {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
				if err == nil {
					_, err = c.Write([]byte{byte(id)})
				}
				return c, err
			},
			Deliver: func(m *raftpb.Message, gen uint64) {
				if r := r.Load(); r != nil {
					r.Step(m, gen)
				}
			},
		})
		go func() {
			for {
				c, err := listeners[id].Accept()
				if err != nil {
					return
				}
				go func() {
					var who [1]byte
					if _, err := c.Read(who[:]); err == nil {
						_ = tr.Serve(c, uint64(who[0]))
					}
				}()
			}
		}()
		tr.SetPeers(addrs)
		rep, err := Start(Options{VoterConfig: VoterConfig{
			CoreConfig: CoreConfig{ID: id, Log: log, State: state, Machine: &last{}, Logger: quiet{}, Send: func(ms []*raftpb.Message) { tr.Send(ms, 0) }},
			TickEvery:  150 * time.Millisecond,
		}})
		if err != nil {
			b.Fatal(err)
		}
		r.Store(rep)
		if first == nil {
			first = rep
		}
		b.Cleanup(func() { tr.Close(); rep.Stop(); _ = dev.Close() })
	}
	for end := time.Now().Add(10 * time.Second); !first.Status().IsLeader; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			b.Fatal("no leader")
		}
		first.Campaign()
	}
	return first
}

// BenchmarkCommit is the latency and the rate of durable commits on three voters,
// with values of 256 bytes, by the number of clients.
func BenchmarkCommit(b *testing.B) {
	for _, clients := range []int{1, 16, 256, 1024} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			lead := trio(b)
			var next atomic.Int64
			took := make([]time.Duration, b.N)
			var wg sync.WaitGroup
			b.ResetTimer()
			for range clients {
				wg.Go(func() {
					value := make([]byte, 256)
					for {
						n := next.Add(1) - 1
						if n >= int64(b.N) {
							return
						}
						_, _ = rand.Read(value[:8])
						began := time.Now()
						if _, err := lead.Propose(context.Background(), binary.BigEndian.Uint64(value), slices.Clone(value)); err != nil {
							b.Error(err)
							return
						}
						took[n] = time.Since(began)
					}
				})
			}
			wg.Wait()
			tell(b, took)
		})
	}
}

func tell(b *testing.B, took []time.Duration) {
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-p50")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
	b.ReportMetric(float64(len(took))/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkCommitAtRate is the latency of durable commits that come at a fixed rate,
// whether those before them are done or not, as from many clients that do not know of
// each other. Each is timed from when it was due: where the voters, or this benchmark,
// fall behind, all that wait show it. The rate that was reached is told beside.
func BenchmarkCommitAtRate(b *testing.B) {
	const beat = time.Millisecond // what is due within one is begun together
	for _, rate := range []int{5000, 20000} {
		b.Run(fmt.Sprintf("rate=%d", rate), func(b *testing.B) {
			lead := trio(b)
			took := make([]time.Duration, b.N)
			due := make(chan int, b.N)
			var wg sync.WaitGroup
			b.ResetTimer()
			began := time.Now()
			at := func(n int) time.Time { return began.Add(time.Duration(n) * time.Second / time.Duration(rate)) }
			for range 2048 { // more than are ever under way
				wg.Go(func() {
					value := make([]byte, 256)
					for n := range due {
						_, _ = rand.Read(value[:8])
						if _, err := lead.Propose(context.Background(), binary.BigEndian.Uint64(value), slices.Clone(value)); err != nil {
							b.Error(err)
							return
						}
						took[n] = time.Since(at(n))
					}
				})
			}
			for n := range b.N {
				if wait := time.Until(at(n)); wait > 0 {
					time.Sleep(max(wait, beat))
				}
				due <- n
			}
			close(due)
			wg.Wait()
			tell(b, took)
		})
	}
}
