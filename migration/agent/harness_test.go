package agent_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorate/internal/qmp"
	"quorate/migration"
	"quorate/migration/agent"
	"quorate/migration/migrationpb"
	"quorate/resources/vm"
	"quorate/test/lab/guest"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// node is one of the two ends: a host with its machines and its server.
type node struct {
	name   string
	host   *vm.Host
	server *agent.Server
	addr   string
	// target is the latest process that was made to receive, outcome what the
	// latest migration to here ended with.
	target  atomic.Pointer[targetQEMU]
	outcome chan migration.TargetOutcome
}

// targetQEMU can be kept from being killed, as if its whole node hung.
type targetQEMU struct {
	*vm.Machine
	hung chan struct{} // nil: it does not hang; else until closed
}

func (q *targetQEMU) Kill(ctx context.Context) error {
	if q.hung != nil {
		<-q.hung
	}
	return q.Machine.Kill(ctx)
}

// lab is two nodes, a machine on what both can reach, and the database.
type lab struct {
	t        *testing.T
	settings vm.Settings
	folder   string
	s1, s2   *node
	tls      *tls.Config
	log      *zap.Logger
	moves    int
	hangNext bool // the next target hangs when it is to be killed

	mu    sync.Mutex
	owner *node
}

func newLab(t *testing.T, o guest.Options) *lab {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("qemu-system-x86_64 is not here; install Debian's qemu-system-x86")
	}
	img, err := guest.Build(t.Context(), o)
	if err != nil {
		t.Skipf("no guest; it needs Debian's %v and a network: %v", guest.Packages, err)
	}
	l := &lab{t: t, tls: testTLS(t), log: zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))}
	root := t.TempDir()
	l.settings, err = vm.Create(t.Context(), root, vm.Spec{Name: "sql01", MemoryMiB: 192, CPUs: 1, Image: img.Path})
	if err != nil {
		t.Fatal(err)
	}
	l.folder = filepath.Join(root, "sql01")
	l.s1, l.s2 = l.newNode("s1"), l.newNode("s2")
	l.own(l.s1)
	return l
}

func (l *lab) newNode(name string) *node {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "qm-")
	if err != nil {
		l.t.Fatal(err)
	}
	n := &node{name: name, outcome: make(chan migration.TargetOutcome, 16)}
	n.host, err = vm.NewHost(vm.Options{RunDir: dir, Accel: vm.AccelTCG, Log: l.log})
	if err != nil {
		l.t.Fatal(err)
	}
	n.server = l.newServer(n)
	listener, err := tls.Listen("tcp", "127.0.0.1:0", l.tls)
	if err != nil {
		l.t.Fatal(err)
	}
	n.addr = listener.Addr().String()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.server.Accept(c) })
		}
	})
	l.t.Cleanup(func() {
		_ = listener.Close()
		n.server.Close()
		wg.Wait()
		if _, err := vm.KillAll(context.Background(), dir); err != nil {
			l.t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return n
}

func (l *lab) newServer(n *node) *agent.Server {
	s, err := agent.NewServer(agent.ServerConfig{
		Prepare: func(ctx context.Context, o *migrationpb.Offer) (agent.QEMU, error) {
			s, err := vm.Parse(o.GetSettings())
			if err != nil {
				return nil, err
			}
			m, err := n.host.StartIncoming(ctx, s, o.GetFolder())
			if err != nil {
				return nil, err
			}
			q := &targetQEMU{Machine: m}
			if l.hangNext {
				q.hung = make(chan struct{})
			}
			n.target.Store(q)
			return q, nil
		},
		Owner: func(context.Context, string, *migrationpb.Offer) (migration.Owner, error) { return l.ownerFor(n), nil },
		Finished: func(_ *migrationpb.Offer, o migration.TargetOutcome, _ string) {
			if q := n.target.Load(); q != nil {
				_ = q.Close() // let others at the monitor
			}
			n.outcome <- o
		},
		Log:     l.log.Named(n.name),
		Options: migration.TargetOptions{Patience: 3 * time.Second},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

func (l *lab) own(n *node) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.owner = n
}

// ownerFor is the owner as a node sees it.
func (l *lab) ownerFor(n *node) migration.Owner {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.owner {
	case n:
		return migration.OwnerSelf
	case nil:
		return migration.OwnerElse
	}
	return migration.OwnerPeer
}

func (l *lab) other(n *node) *node {
	if n == l.s1 {
		return l.s2
	}
	return l.s1
}

// start runs the machine on a node, from its disk.
func (l *lab) start(n *node) {
	l.t.Helper()
	m, err := n.host.Start(l.t.Context(), l.settings, l.folder)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		l.t.Fatal(err)
	}
	l.own(n)
	l.runs(n, 10)
}

// commit is a switch that goes well.
func (l *lab) commit(to *node) func(context.Context) (migration.Answer, error) {
	return func(context.Context) (migration.Answer, error) {
		l.own(to)
		return migration.AnswerCommitted, nil
	}
}

// source is a migration from a node to the other one. edit changes it.
func (l *lab) source(from *node, edit func(*agent.SourceConfig)) (*agent.Source, *vm.Machine) {
	l.t.Helper()
	to := l.other(from)
	m, err := from.host.Lookup(l.t.Context(), l.settings.Name)
	if err != nil || m == nil {
		l.t.Fatalf("the machine is not on %s: %v", from.name, err)
	}
	l.moves++
	text, err := l.settings.Encode()
	if err != nil {
		l.t.Fatal(err)
	}
	c := agent.SourceConfig{
		ID:      fmt.Sprintf("m%d", l.moves),
		Offer:   &migrationpb.Offer{Vm: l.settings.Name, Folder: l.folder, Source: from.name, Settings: text},
		Machine: m,
		Dial: func(ctx context.Context) (net.Conn, error) {
			d := tls.Dialer{Config: l.tls}
			return d.DialContext(ctx, "tcp", to.addr)
		},
		Switch:  l.commit(to),
		Log:     l.log.Named(from.name),
		Options: migration.SourceOptions{FinishTimeout: 2 * time.Second, KillTimeout: time.Second},
	}
	if edit != nil {
		edit(&c)
	}
	s, err := agent.NewSource(c)
	if err != nil {
		l.t.Fatal(err)
	}
	return s, m
}

// move is a migration that must end in a certain way.
func (l *lab) move(from *node, want migration.Outcome, edit func(*agent.SourceConfig)) agent.Result {
	l.t.Helper()
	s, m := l.source(from, edit)
	defer m.Close()
	r := s.Run(l.t.Context())
	if r.Outcome != want {
		l.t.Fatalf("ended as %v and not as %v: %+v", r.Outcome, want, r)
	}
	return r
}

// console is what the machine said on both nodes.
func (l *lab) console(nodes ...*node) guest.Console {
	l.t.Helper()
	var all []guest.Console
	for _, n := range nodes {
		f, err := os.Open(n.host.ConsoleLog(l.settings.Name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			l.t.Fatal(err)
		}
		c, err := guest.ParseConsole(f)
		_ = f.Close()
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, c)
	}
	return guest.Merge(all...)
}

// runs waits until the machine has counted n further on a node, and looks that
// the other one does not run it.
func (l *lab) runs(on *node, n uint64) {
	l.t.Helper()
	from := l.console(on).Last()
	until(l.t, "the machine counts on "+on.name, func() bool { return l.console(on).Last() >= from+n }, func() { l.explain(on) })
	m, err := l.other(on).host.Lookup(l.t.Context(), l.settings.Name)
	if err != nil {
		l.t.Fatal(err)
	}
	if m == nil {
		return
	}
	defer m.Close()
	if s, err := m.Status(l.t.Context()); err == nil && s.Status == qmp.RunStateRunning {
		l.t.Fatalf("the machine runs on %s too", l.other(on).name)
	}
}

// gone waits until a node has no process of the machine.
func (l *lab) gone(n *node) {
	l.t.Helper()
	until(l.t, "no process is left on "+n.name, func() bool {
		m, err := n.host.Lookup(l.t.Context(), l.settings.Name)
		if errors.Is(err, vm.ErrBusy) {
			return false // it was killed, and is about to end
		}
		if err != nil {
			l.t.Fatal(err)
		}
		return m == nil
	})
}

// ended waits for how the latest migration to a node ended.
func (l *lab) ended(n *node, want migration.TargetOutcome) {
	l.t.Helper()
	select {
	case got := <-n.outcome:
		if got != want {
			l.t.Errorf("on %s it ended as %v and not as %v", n.name, got, want)
		}
	case <-time.After(time.Minute):
		l.t.Fatalf("on %s it never ends", n.name)
	}
}

// nothingLost stops the machine and compares what it acknowledged with its disk.
func (l *lab) nothingLost(on *node) guest.Console {
	l.t.Helper()
	m, err := on.host.Lookup(l.t.Context(), l.settings.Name)
	if err != nil || m == nil {
		l.t.Fatalf("the machine is not on %s: %v", on.name, err)
	}
	if err := m.Kill(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
	report, err := guest.Verify(filepath.Join(l.folder, "disk0.raw"))
	if err != nil {
		l.t.Fatal(err)
	}
	c := l.console(l.s1, l.s2)
	if lost := guest.Lost(c, report); len(lost) != 0 {
		l.t.Errorf("lost or run twice: %q", lost)
	}
	return c
}

// explain logs what there is to know of a machine that does not count.
func (l *lab) explain(on *node) {
	text, err := os.ReadFile(on.host.ConsoleLog(l.settings.Name))
	l.t.Logf("the console on %s ends with %q, %v", on.name, text[max(0, len(text)-3000):], err)
	m, err := on.host.Lookup(l.t.Context(), l.settings.Name)
	if err != nil || m == nil {
		l.t.Logf("no process there: %v", err)
		return
	}
	defer m.Close()
	s, err := m.Status(l.t.Context())
	l.t.Logf("process %d: %+v, %v", m.PID(), s, err)
	if mon, err := m.Monitor(l.t.Context()); err == nil {
		var out string
		for _, c := range []string{"info registers", "info pic", "info irq"} {
			err := mon.Execute(l.t.Context(), "human-monitor-command", map[string]any{"command-line": c}, &out)
			l.t.Logf("%s: %s %v", c, out, err)
		}
	}
}

// patience is for a guest without KVM on a machine that is busy with other tests.
const patience = time.Minute

func until(t *testing.T, what string, cond func() bool, explain ...func()) {
	t.Helper()
	for start := time.Now(); !cond(); time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			for _, e := range explain {
				e()
			}
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// testTLS is a configuration for both ends, each demanding the other's
// certificate.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
		RootCAs:      pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
		MinVersion: tls.VersionTLS13, DynamicRecordSizingDisabled: true,
	}
}
