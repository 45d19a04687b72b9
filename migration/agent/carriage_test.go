package agent_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/migration"
	"quorate/migration/agent"
	"quorate/test/lab/guest"
)

// TestCarriages: a machine arrives whole over several streams, compressed, limited,
// and by each after the other, so that nothing of the one before is left.
func TestCarriages(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	on := l.s1
	var plain int64
	for _, c := range []migration.Carriage{{}, {Streams: 2}, {Streams: 2, Compress: true}, {}, {Streams: 1, Compress: true}} {
		r := l.move(on, migration.Moved, func(s *agent.SourceConfig) { s.Carriage = c })
		t.Logf("%v: total %v, pause %v, %d KiB in %d rounds", c, r.Total, r.Pause, r.Bytes>>10, r.Rounds)
		if r.Carriage != c {
			t.Errorf("it went over as %v and not as %v", r.Carriage, c)
		}
		if c == (migration.Carriage{}) {
			plain = r.Bytes
		}
		if c.Compress && r.Bytes > plain*2/3 {
			t.Errorf("compressed it took %d bytes, and %d before", r.Bytes, plain)
		}
		l.gone(on)
		on = l.other(on)
		l.ended(on, migration.TargetRuns)
		l.runs(on, 5)
	}
	if c := l.nothingLost(on); len(c.Boots) != 1 {
		t.Errorf("the guest booted %d times", len(c.Boots))
	}
}

// TestBandwidthLimit: a limited copy is carried no faster, and goes on when the limit
// is lifted under way.
func TestBandwidthLimit(t *testing.T) {
	l := newLab(t, guest.Options{})
	l.start(l.s1)
	const limit = 4 << 20
	var once sync.Once
	var s *agent.Source
	s, m := l.source(l.s1, func(c *agent.SourceConfig) {
		c.Options.Bandwidth = limit
		c.Progress = func(p migration.Progress) {
			if p.Elapsed > 2*time.Second && p.Sent > limit/2 {
				once.Do(func() {
					if p.Rate > 3*limit {
						t.Errorf("%d bytes a second, limited to %d", p.Rate, limit)
					}
					go s.LimitBandwidth(0)
				})
			}
		}
	})
	defer m.Close()
	r := s.Run(t.Context())
	if r.Outcome != migration.Moved {
		t.Fatalf("%+v", r)
	}
	t.Logf("total %v, %d KiB", r.Total, r.Bytes>>10)
	if full := time.Duration(float64(r.Bytes) / limit * float64(time.Second)); r.Total < 2*time.Second || r.Total > full {
		t.Errorf("it took %v; limited all the way it would have taken %v", r.Total, full)
	}
}

func TestMeasure(t *testing.T) {
	l := newLab(t, guest.Options{})
	dial := func(ctx context.Context) (net.Conn, error) {
		d := tls.Dialer{Config: l.tls}
		return d.DialContext(ctx, "tcp", l.s2.addr)
	}
	p, err := agent.Measure(t.Context(), dial)
	if err != nil || p.Rate < 1<<20 || p.IdleThere < 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	t.Logf("%d MiB/s, %.1f processors idle", p.Rate>>20, p.IdleThere)
	// A path that lets nothing through is found out, and in time.
	hole, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer hole.Close()
	began := time.Now()
	_, err = agent.Measure(t.Context(), func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", hole.Addr().String())
	})
	if err == nil || !strings.Contains(err.Error(), "measure the path") || time.Since(began) > time.Minute {
		t.Fatalf("%v after %v", err, time.Since(began))
	}
}
