package coordinator_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"quorate/csv"
	"quorate/csv/coordinator"
	"quorate/csv/csvpb"
	"quorate/csv/volume"
	"quorate/disk"
)

// peer is a client that does nothing by itself: it answers no recall.
type peer struct {
	t    *testing.T
	conn net.Conn
	got  chan *csvpb.ToClient // all that is not a recall
	next uint64
}

func connect(t *testing.T, c *coordinator.Coordinator, node uint64, claims ...*csvpb.Claim) *peer {
	t.Helper()
	here, there := net.Pipe()
	p := &peer{t: t, conn: here, got: make(chan *csvpb.ToClient, 16)}
	served := make(chan struct{})
	go func() {
		defer close(served)
		h, err := coordinator.ReadHello(there)
		if err == nil {
			c.Serve(context.Background(), there, h)
		}
	}()
	go func() {
		defer close(p.got)
		for {
			m := &csvpb.ToClient{}
			if csvpb.Read(here, m) != nil {
				return
			}
			if m.GetRecall() == nil {
				p.got <- m
			}
		}
	}()
	t.Cleanup(func() { _ = here.Close(); <-served })
	p.send(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Hello{Hello: &csvpb.Hello{Volume: "Volume1", Node: node, Incarnation: node, Claims: claims}}})
	if m := <-p.got; m.GetWelcome().GetErrno() != 0 {
		t.Fatal(m)
	}
	return p
}

func (p *peer) send(m *csvpb.ToCoordinator) {
	p.t.Helper()
	if err := csvpb.Write(p.conn, m); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) ask(r *csvpb.Request) {
	p.t.Helper()
	p.next++
	r.Id = p.next
	p.send(&csvpb.ToCoordinator{Body: &csvpb.ToCoordinator_Request{Request: r}})
}

func (p *peer) answer() *csvpb.Response {
	p.t.Helper()
	m, ok := <-p.got
	if !ok || m.GetResponse() == nil || m.GetResponse().Errno != 0 {
		p.t.Fatalf("%v", m)
	}
	return m.GetResponse()
}

// TestOwing: a node that answers no recall owes one and the same answer at each look, be
// it that its connection broke and it came back in between,
// and nobody owes anything when it is evicted; who asked is answered then. After a
// takeover it owes that it comes back.
func TestOwing(t *testing.T) {
	mem := disk.NewMemory(64<<20, 4096)
	if _, err := volume.Format(t.Context(), mem, volume.FormatOptions{UUID: volume.UUID{1}, Name: "Volume1"}); err != nil {
		t.Fatal(err)
	}
	start := func(epoch uint64) *coordinator.Coordinator {
		c, err := coordinator.New(t.Context(), coordinator.Options{
			Device: mem, Epoch: epoch, Now: time.Now, Log: zaptest.NewLogger(t),
			Reset:    func(context.Context) error { return nil },
			Supplant: func(context.Context, []byte) error { return nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Abandon)
		return c
	}
	c := start(1)
	silent, other := connect(t, c, 1), connect(t, c, 2)
	silent.ask(&csvpb.Request{Op: &csvpb.Request_Create{Create: &csvpb.Create{Dir: volume.RootIno, Name: []byte("x"), Mode: 0o100644, Open: true}}})
	ino := silent.answer().Inode.Ino
	silent.ask(&csvpb.Request{Op: &csvpb.Request_Map{Map: &csvpb.Map{Ino: ino, Write: true, To: 1}}})
	silent.answer()

	looks := func(c *coordinator.Coordinator, want int) map[csv.NodeID]uint64 {
		t.Helper()
		for {
			owing, ok := c.Owing()
			if ok && len(owing) == want {
				return owing
			}
			if t.Context().Err() != nil {
				t.Fatal("the test ended")
			}
			time.Sleep(time.Millisecond)
		}
	}
	looks(c, 0)
	other.ask(&csvpb.Request{Op: &csvpb.Request_Map{Map: &csvpb.Map{Ino: ino, Write: true, To: 1}}})
	first := looks(c, 1)
	if again := looks(c, 1); first[1] == 0 || again[1] != first[1] {
		t.Fatalf("%v, then %v", first, again)
	}
	connect(t, c, 1, &csvpb.Claim{Ino: ino, Mode: uint32(csv.Exclusive)})
	if again := looks(c, 1); again[1] != first[1] {
		t.Fatalf("%v, and %v since it has come back", first, again)
	}
	c.Evict(1)
	looks(c, 0)
	if r := other.answer(); r.Lease != uint32(csv.Exclusive) {
		t.Fatalf("%v", r)
	}
	c.Abandon()
	if owing := looks(start(2), 1); owing[2] != 0 {
		t.Fatalf("after a takeover: %v", owing)
	}
}
