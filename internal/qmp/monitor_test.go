package qmp

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dial(t *testing.T, f *fakeQEMU, timeout time.Duration) *Monitor {
	t.Helper()
	m, err := Dial(t.Context(), f.path, Options{Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestRepliesAreMatchedByID(t *testing.T) {
	// The first command is answered only after the second.
	var held string
	f := serve(t, greeting, func(a asked) string {
		if a.Execute == "query-status" {
			held = `{"return": {"running": true, "status": "running"}, "id": ` + a.ID.String() + `}`
			return ""
		}
		return `{"return": {"name": "sql01"}, "id": ` + a.ID.String() + "}\r\n" + held
	})
	m := dial(t, f, time.Minute)
	type result struct {
		s   Status
		err error
	}
	first := make(chan result, 1)
	go func() {
		s, err := m.QueryStatus(t.Context())
		first <- result{s, err}
	}()
	waitPending(t, m, 1)
	name, err := m.QueryName(t.Context())
	if err != nil || name != "sql01" {
		t.Fatalf("query-name: %q, %v", name, err)
	}
	if r := <-first; r.err != nil || r.s.Status != RunStateRunning {
		t.Fatalf("query-status: %+v", r)
	}
	if v := m.Version().String(); v != "7.2.22" {
		t.Errorf("version %s", v)
	}
}

// waitPending waits until n commands were sent and not answered.
func waitPending(t *testing.T, m *Monitor, n int) {
	t.Helper()
	for {
		m.mu.Lock()
		have := len(m.mu.pending)
		m.mu.Unlock()
		if have == n {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatal("the command was never sent")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestRefusal(t *testing.T) {
	f := serve(t, greeting, func(a asked) string {
		return `{"error": {"class": "GenericError", "desc": "not now"}, "id": ` + a.ID.String() + `}`
	})
	err := dial(t, f, time.Minute).Cont(t.Context())
	var refused *Error
	if !errors.As(err, &refused) || refused.Command != "cont" || refused.Desc != "not now" {
		t.Fatalf("got %v", err)
	}
}

func TestSilenceEndsInTimeout(t *testing.T) {
	late := make(chan string, 1)
	f := serve(t, greeting, func(a asked) string {
		if a.Execute == "stop" {
			late <- `{"return": {}, "id": ` + a.ID.String() + `}`
			return ""
		}
		// The late answer comes first: it must not be taken for this one's.
		return <-late + "\r\n" + `{"return": {"name": "x"}, "id": ` + a.ID.String() + `}`
	})
	m := dial(t, f, 50*time.Millisecond)
	if err := m.Stop(t.Context()); !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	if name, err := m.QueryName(t.Context()); err != nil || name != "x" {
		t.Fatalf("after a timeout: %q, %v", name, err)
	}
}

func TestNoGreeting(t *testing.T) {
	f := serve(t, "", nil)
	_, err := Dial(t.Context(), f.path, Options{Timeout: 50 * time.Millisecond})
	if !errors.Is(err, ErrTimeout) {
		t.Fatalf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Dial(ctx, f.path, Options{}); err == nil {
		t.Fatal("a cancelled Dial succeeded")
	}
}

func TestDeathOfQEMU(t *testing.T) {
	var f *fakeQEMU
	f = serve(t, greeting, func(asked) string {
		_ = (<-f.conn).Close()
		return ""
	})
	m := dial(t, f, time.Minute)
	sub := m.Subscribe()
	if err := m.Cont(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("got %v", err)
	}
	if _, open := <-sub.C(); open {
		t.Error("the subscription outlived the connection")
	}
	sub.Cancel()
	<-m.Done()
	if err := m.Cont(t.Context()); !errors.Is(err, ErrClosed) {
		t.Fatalf("afterwards: %v", err)
	}
	if _, open := <-m.Subscribe().C(); open {
		t.Error("subscribing to a closed connection delivers")
	}
}

func TestEventsAreFilteredAndBounded(t *testing.T) {
	stop := `{"timestamp": {"seconds": 5, "microseconds": 7}, "event": "STOP"}` + "\r\n"
	migr := `{"timestamp": {"seconds": 5, "microseconds": 7}, "event": "MIGRATION", "data": {"status": "completed"}}` + "\r\n"
	f := serve(t, greeting, func(a asked) string {
		return strings.Repeat(stop, eventBuffer+10) + migr + `{"return": {}, "id": ` + a.ID.String() + `}`
	})
	m := dial(t, f, time.Minute)
	all, some := m.Subscribe(), m.Subscribe("MIGRATION")
	if err := m.Cont(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := all.Dropped(); n != 11 || len(all.C()) != eventBuffer {
		t.Errorf("dropped %d, waiting %d", n, len(all.C()))
	}
	e := <-some.C()
	if s, err := MigrationChange(e); err != nil || s != MigrationCompleted || !e.At.Equal(time.Unix(5, 7000)) {
		t.Errorf("%+v: %s, %v", e, s, err)
	}
}

func FuzzDecoder(f *testing.F) {
	f.Add([]byte(greeting + "\r\n"))
	f.Add([]byte("{\"return\": {}, \"id\": 3}\r\n\n{\"event\": \"STOP\"}\n"))
	f.Add([]byte("{\"id\": -1, \"error\": null}\n{"))
	f.Add([]byte("{\"return\": [1, 2, \"\xff\"], \"id\": \"x\"}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := newDecoder(strings.NewReader(string(in)))
		for range len(in) + 1 {
			m, err := d.next()
			if err != nil {
				return
			}
			if m.Event != "" {
				_ = m.event()
			}
		}
		t.Fatal("more messages than bytes")
	})
}
