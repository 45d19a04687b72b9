//go:build cgo

package san

import (
	"strings"
	"testing"
	"time"

	"quorate/disk/iscsi"
)

// TestProbe plays the test of reservations between two nodes.
func TestProbe(t *testing.T) {
	ctx := t.Context()
	_, portal := startTarget(t)
	a, b := openSan(t, t.TempDir()), openSan(t, t.TempDir())
	if a.InitiatorName() == b.InitiatorName() {
		t.Fatal("two nodes of one name")
	}
	if _, err := a.Login(ctx, portal, "", iscsi.CHAP{}); err != nil {
		t.Fatal(err)
	}
	luns, err := a.LUNs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	url := luns[1].URL
	ka, kb := ProbeKeys|0xa, ProbeKeys|0xb
	step := func(s *San, r ProbeRequest, conflict bool) ProbeResult {
		t.Helper()
		r.URL, r.Session = url, "v1"
		res, err := s.Probe(ctx, r)
		if err != nil || res.Error != "" || res.Conflict != conflict {
			t.Fatalf("%s: %+v, %v; conflict %v expected", r.Step, res, err, conflict)
		}
		return res
	}
	if c := step(a, ProbeRequest{Step: "capabilities"}, false); !c.Reservations || c.Persist || c.PreemptAbort {
		t.Errorf("capabilities of tgt: %+v", c)
	}
	step(a, ProbeRequest{Step: "register", Key: ka}, false)
	step(a, ProbeRequest{Step: "reserve", Key: ka, Type: 5}, false)
	step(a, ProbeRequest{Step: "write"}, false)
	step(b, ProbeRequest{Step: "write"}, true)
	step(b, ProbeRequest{Step: "register", Key: kb}, false)
	step(b, ProbeRequest{Step: "write"}, false)
	step(a, ProbeRequest{Step: "preempt", Key: ka, Victim: kb, Type: 5}, false)
	step(b, ProbeRequest{Step: "write"}, true)
	if k := step(b, ProbeRequest{Step: "read-keys"}, false); len(k.Keys) != 1 || k.Keys[0] != ka || k.Type != 5 {
		t.Errorf("keys after the preempt: %+v", k)
	}
	if l := step(b, ProbeRequest{Step: "latency"}, false); len(l.Latency) != latencyReads || l.Latency[0] <= 0 {
		t.Errorf("latency: %+v", l)
	}
	step(a, ProbeRequest{Step: "clear", Key: ka}, false)
	step(b, ProbeRequest{Step: "write"}, false)
	step(b, ProbeRequest{Step: "register", Key: kb}, false)
	step(b, ProbeRequest{Step: "close"}, false)
	if k := step(a, ProbeRequest{Step: "read-keys"}, false); len(k.Keys) != 0 {
		t.Errorf("keys after the close: %+v", k)
	}
	for _, r := range []ProbeRequest{
		{URL: url, Step: "dance", Session: "v1"},
		{URL: url, Step: "write"},
		{URL: url, Step: "register", Key: 1, Session: "v1"},
		{URL: luns[0].URL, Step: "write", Session: "v1"},
	} {
		if _, err := a.Probe(ctx, r); err == nil {
			t.Errorf("%+v was taken", r)
		} else if strings.Contains(err.Error(), "\n") {
			t.Errorf("%v", err)
		}
	}
}

// TestCloseTakesKeysBack leaves no key of a probe that was under way.
func TestCloseTakesKeysBack(t *testing.T) {
	ctx := t.Context()
	_, portal := startTarget(t)
	a, b := openSan(t, t.TempDir()), openSan(t, t.TempDir())
	seen, err := b.Login(ctx, portal, "", iscsi.CHAP{})
	if err != nil {
		t.Fatal(err)
	}
	url := seen[0].LUNs[0].URL
	for _, r := range []ProbeRequest{
		{URL: url, Step: "register", Key: ProbeKeys | 1, Session: "v"}, {URL: url, Step: "reserve", Key: ProbeKeys | 1, Type: 5, Session: "v"},
	} {
		if res, err := a.Probe(ctx, r); err != nil || res.Conflict || res.Error != "" {
			t.Fatalf("%s: %+v, %v", r.Step, res, err)
		}
	}
	a.Close()
	if res, err := b.Probe(ctx, ProbeRequest{URL: url, Step: "read-keys", Session: "w"}); err != nil || len(res.Keys) != 0 || res.Type != 0 {
		t.Errorf("left: %+v, %v", res, err)
	}
	if _, err := a.Probe(ctx, ProbeRequest{URL: url, Step: "read-keys", Session: "x"}); err == nil {
		t.Error("a probe began after Close")
	}
}

// TestIdleProbeEnds takes the key of a probe back that nobody goes on with.
func TestIdleProbeEnds(t *testing.T) {
	ctx := t.Context()
	_, portal := startTarget(t)
	a, b := openSan(t, t.TempDir()), openSan(t, t.TempDir())
	a.idle = 200 * time.Millisecond
	seen, err := b.Login(ctx, portal, "", iscsi.CHAP{})
	if err != nil {
		t.Fatal(err)
	}
	r := ProbeRequest{URL: seen[0].LUNs[0].URL, Step: "register", Key: ProbeKeys | 1, Session: "v"}
	if res, err := a.Probe(ctx, r); err != nil || res.Conflict || res.Error != "" {
		t.Fatalf("%+v, %v", res, err)
	}
	r.Step = "read-keys"
	for {
		res, err := b.Probe(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		if len(res.Keys) == 0 {
			break
		}
	}
}
