package membership

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

func port(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func start(t *testing.T, name string, key byte) (*Gossip, string) {
	t.Helper()
	p := port(t)
	g, err := Start(Options{Name: name, Advertise: "127.0.0.1", Port: p, Key: bytes.Repeat([]byte{key}, 32), Addresses: func(string) []string { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Stop() })
	return g, fmt.Sprintf("127.0.0.1:%d", p)
}

func TestOnlyHoldersOfTheKeyAreHeard(t *testing.T) {
	a, addr := start(t, "s1", 1)
	b, _ := start(t, "s2", 1)
	stranger, _ := start(t, "s3", 2)
	if err := b.Join(map[string]string{"s1": addr}); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Join(map[string]string{"s1": addr}); err == nil {
		t.Fatal("a stranger was let in")
	}
	for end := time.Now().Add(10 * time.Second); a.States()["s2"] != Alive; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("s1 sees %v", a.States())
		}
	}
	if _, seen := a.States()["s3"]; seen {
		t.Fatal("the stranger is seen")
	}
	if err := b.Stop(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); a.States()["s2"] == Alive; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("s1 sees %v", a.States())
		}
	}
}

func TestNeverInTheClear(t *testing.T) {
	if _, err := Start(Options{Name: "s1", Advertise: "127.0.0.1", Port: 7402}); err == nil {
		t.Fatal("started without a key")
	}
}

// TestGossipSpansNetworks has the address that memberlist knows lead nowhere, as
// when its network is cut: all goes over the other.
func TestGossipSpansNetworks(t *testing.T) {
	where := map[string]string{}
	var mu sync.Mutex
	addresses := func(name string) []string {
		mu.Lock()
		defer mu.Unlock()
		return []string{"127.0.0.1:9", where[name]} // discard: nobody listens
	}
	var all []*Gossip
	for _, name := range []string{"s1", "s2"} {
		p := port(t)
		mu.Lock()
		where[name] = fmt.Sprintf("127.0.0.1:%d", p)
		mu.Unlock()
		g, err := Start(Options{Name: name, Advertise: "127.0.0.1", Port: p, Key: bytes.Repeat([]byte{1}, 32), Addresses: addresses})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { g.Stop() })
		all = append(all, g)
	}
	if err := all[1].Join(map[string]string{"s1": "127.0.0.1:9"}); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); all[0].States()["s2"] != Alive || all[1].States()["s1"] != Alive; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("s1 sees %v, s2 sees %v", all[0].States(), all[1].States())
		}
	}
	// A packet that only the second address takes is answered.
	if _, err := all[1].list.Ping("s1", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}); err != nil {
		t.Fatal(err)
	}
}
