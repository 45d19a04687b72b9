package box

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	MaybeInit()
	os.Exit(m.Run())
}

func startBox(t *testing.T) Box {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	dir, err := os.MkdirTemp("", "box")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	own := filepath.Join(dir, "own")
	if err := os.Mkdir(own, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := Start(context.Background(), Spec{Dir: filepath.Join(dir, "x"), Hostname: "x", Binds: map[string]string{"/ClusterStorage": own, "/etc/quorate": own}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Kill(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func run(t *testing.T, b Box, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	var out bytes.Buffer
	code, err := b.Exec(ctx, []string{"sh", "-c", script}, nil, Stdio{In: strings.NewReader("in"), Out: &out, Err: &out})
	if err != nil || code != 0 {
		t.Fatalf("%s: status %d, %v: %s", script, code, err, &out)
	}
	return strings.TrimSpace(out.String())
}

func TestBox(t *testing.T) {
	b := startBox(t)
	for script, want := range map[string]string{
		"hostname": "x",
		"cat":      "in",
		"echo hello > /ClusterStorage/f; cat /etc/quorate/f": "hello",
		"ls /sys/class/net":                                         "lo",
		"ps -e | wc -l | awk '{print ($1 < 8)}'":                    "1",
		"ls -d /run/quorate /var/lib/dpkg/status":                   "/run/quorate\n/var/lib/dpkg/status",
		"sh -c 'sleep 0.01 & exit 0'; grep -c ^Name /proc/1/status": "1",
	} {
		if got := run(t, b, script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	for _, p := range []string{"/ClusterStorage", "/etc/quorate"} {
		if _, err := os.Stat(p); err == nil {
			t.Logf("%s is on the host, which the box did not need", p)
		}
	}
	code, err := b.Exec(context.Background(), []string{"sh", "-c", "kill -9 $$"}, nil, Stdio{})
	if err != nil || code != 137 {
		t.Errorf("%d %v", code, err)
	}
	if _, err := b.Exec(context.Background(), []string{"no-such-program"}, nil, Stdio{}); err == nil {
		t.Error("no-such-program ran")
	}
}

func TestExecEndsWithItsContext(t *testing.T) {
	b := startBox(t)
	ctx, cancel := context.WithCancel(context.Background())
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() {
		_, err := b.Exec(ctx, []string{"sleep", "1000"}, nil, Stdio{Out: &out})
		done <- err
	}()
	await(t, func() bool { return count(t, b) == 2 })
	cancel()
	if err := <-done; err == nil {
		t.Error("no error")
	}
	await(t, func() bool { return count(t, b) == 1 })
}

func TestDaemonsHangAndKill(t *testing.T) {
	ctx := context.Background()
	b := startBox(t)
	must(t, b.StartDaemon(ctx, "d", []string{"sh", "-c", "echo started; sleep 1000 & sleep 1000"}, nil))
	if err := b.StartDaemon(ctx, "d", []string{"true"}, nil); err == nil {
		t.Error("started twice")
	}
	await(t, func() bool { return count(t, b) == 4 })
	must(t, b.Hang(ctx))
	procs, err := b.Processes()
	must(t, err)
	for _, p := range procs {
		if s := state(p); s != 'T' {
			t.Errorf("process %d is in state %c", p, s)
		}
	}
	if !b.Hung() {
		t.Error("it is not hung")
	}
	must(t, b.Wake(ctx))
	must(t, b.StopDaemon(ctx, "d", syscall.SIGKILL))
	ds, err := b.Daemons(ctx)
	must(t, err)
	if len(ds) != 1 || ds[0].PID != 0 || ds[0].Exit != 137 {
		t.Errorf("%+v", ds)
	}
	if n := count(t, b); n != 3 {
		t.Errorf("%d processes: what the daemon has started should have stayed", n)
	}
	log, err := os.ReadFile(b.LogPath("d"))
	must(t, err)
	if string(log) != "started\n" {
		t.Errorf("log: %q", log)
	}
	must(t, b.Kill())
	if n := count(t, b); n != 0 {
		t.Errorf("%d processes after the power cut", n)
	}
	if _, err := b.Daemons(ctx); err == nil || !strings.Contains(err.Error(), "off") {
		t.Errorf("a box that is off: %v", err)
	}
}

func count(t *testing.T, b Box) int {
	t.Helper()
	p, err := b.Processes()
	must(t, err)
	return len(p)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(limit) {
			t.Fatal("it never came to pass")
		}
		time.Sleep(time.Millisecond)
	}
}
