package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
	"quorate/test/stage"
)

const (
	external  = "External Virtual Network"
	guestHost = "192.168.100.50"
	ownBridge = "ext2" // s2's
)

// TestMachineMovesBetweenBridges has a virtual network that is one bridge on s1 and
// another on s2. As long as the cluster does not know that, it says what is lacking, and
// moves nothing; then a machine moves, and a client that pings it goes on hearing it.
func TestMachineMovesBetweenBridges(t *testing.T) {
	s := stage.Raise(t, 2)
	if out, code := s.Sh("s2", "ip link set br0 down && ip link set br0 name "+ownBridge+" && ip link set "+ownBridge+" up"); code != 0 {
		t.Fatalf("rename s2's bridge: %s", out)
	}
	s.Create()
	s.Must("s1", "csv", "enable")
	s.Must("s1", "csv", "add")
	s.Must("s1", "vnet", "add", external, "--bridge", "br0")

	cache, err := os.UserCacheDir()
	s.Check(err)
	img, err := guest.Build(t.Context(), guest.Options{Dir: filepath.Join(cache, "quorate-guest"), Address: guestHost + "/24"})
	s.Check(err)
	if _, errs, code := s.Ctl("s1", "vm", "create", stage.Machine, "--image", img.Path, "--network", "Extern"); code != 4 || !strings.Contains(errs, external) {
		t.Fatalf("a network that is not there: %d, %s", code, errs)
	}
	s.Must("s1", "vm", "create", stage.Machine, "--image", img.Path, "--memory", "256MiB", "--network", strings.ToLower(external))
	s.Must("s1", "vm", "add", stage.Machine)
	s.Must("s1", "vm", "start", stage.Machine)
	s.Counts()
	s.Must("s1", "vm", "create", "plain", "--image", img.Path, "--memory", "64MiB", "--network", "br0")

	const lacking = external + " is the bridge br0 of s2, which has none of that name"
	s.Eventually("s2's lack is known", func() error {
		if out := s.Must("s2", "vnet", "show", external); !strings.Contains(out, lacking) {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	for _, args := range [][]string{{"live-migrate", stage.Machine, "--to", "s2", "--check"}, {"live-migrate", stage.Machine, "--to", "s2"}, {"live-migrate", stage.Machine, "--best"}} {
		if out, errs, code := s.Ctl("s1", args...); code == 0 || !strings.Contains(out+errs, lacking) {
			t.Fatalf("%v: exit status %d\n%s%s", args, code, out, errs)
		}
	}
	if out, _, _ := s.Ctl("s1", "validate"); !strings.Contains(out, "s2 has no bridge br0") {
		t.Fatalf("validate says:\n%s", out)
	}
	s.Counts()
	s.Must("s1", "vnet", "set", external, "--bridge", "s2="+ownBridge)
	s.Must("s1", "live-migrate", stage.Machine, "--to", "s2", "--check")

	heard := ping(t, s)
	for _, to := range []string{"s2", "s1", "s2"} {
		s.Home(to)
		from := heard.count()
		s.Eventually("the client hears the machine on "+to, func() error {
			if n := heard.count(); n < from+10 {
				return fmt.Errorf("%d answers, %d when it came", n, from)
			}
			return nil
		})
	}
	if out, _ := s.Sh("s2", "ip -o link show master "+ownBridge); !strings.Contains(out, ": q") {
		t.Fatalf("the machine's tap is not on its bridge: %s", out)
	}
	gap := heard.longest()
	s.Tell("the client heard the machine %d times, with %v of silence at most", heard.count(), gap)
	if gap > 5*time.Second {
		t.Errorf("the client heard nothing for %v", gap)
	}
	if _, errs, code := s.Ctl("s1", "vnet", "remove", external); code != 4 || !strings.Contains(errs, "is used by "+stage.Machine) {
		t.Fatalf("a network in use is removed: %d, %s", code, errs)
	}
	if out, code := s.Sh("s1", "ip link set br0 down"); code != 0 {
		t.Fatal(out)
	}
	s.Eventually("it is told that s1's bridge is down", func() error {
		if out := s.Must("s2", "vnet", "list"); !strings.Contains(out, "not in order on s1") {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
}

// pings are the answers that a client got, by when they came.
type pings struct {
	mu   sync.Mutex
	at   []time.Time
	rest []byte // of a line
}

// Write takes in what ping says.
func (p *pings) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rest = append(p.rest, text...)
	for {
		line, rest, whole := bytes.Cut(p.rest, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		if p.rest = rest; bytes.Contains(line, []byte("bytes from "+guestHost)) {
			p.at = append(p.at, time.Now())
		}
	}
}

func (p *pings) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.at)
}

// longest is the longest time without an answer, between two.
func (p *pings) longest() (most time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := 1; i < len(p.at); i++ {
		most = max(most, p.at[i].Sub(p.at[i-1]))
	}
	return most.Round(time.Millisecond)
}

// ping has the administrator's machine ask the guest ten times a second, until the test
// ends.
func ping(t *testing.T, s *stage.Stage) *pings {
	t.Helper()
	p := &pings{}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Lab.Exec(ctx, lab.Admin, []string{"busybox", "ping", "-i", "0.1", guestHost}, box.Stdio{Out: p, Err: p})
	}()
	t.Cleanup(func() { stop(); <-done })
	s.Eventually("the client hears the machine", func() error {
		if p.count() < 3 {
			return fmt.Errorf("%d answers", p.count())
		}
		return nil
	})
	return p
}
