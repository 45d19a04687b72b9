package stage

import (
	"bytes"
	"context"
	"strings"
	"syscall"
	"time"

	"quorate/test/lab/box"
)

// Kill cuts a node's power.
func (s *Stage) Kill(node string) {
	s.t.Helper()
	s.Tell("%s: the power is cut", node)
	s.Check(s.Lab.Kill(context.Background(), node))
}

// Start gives a node its power back.
func (s *Stage) Start(node string) {
	s.t.Helper()
	s.Tell("%s: is switched on", node)
	s.Check(s.Lab.Start(context.Background(), node))
	s.watch(node)
}

// Hang stops everything on a node where it stands.
func (s *Stage) Hang(node string) {
	s.t.Helper()
	s.Tell("%s: hangs", node)
	s.Check(s.Lab.Hang(context.Background(), node))
}

// Wake lets it go on.
func (s *Stage) Wake(node string) {
	s.t.Helper()
	s.Tell("%s: wakes", node)
	s.Check(s.Lab.Wake(context.Background(), node))
}

// Cut pulls a node's cables of some networks, "all" for all.
func (s *Stage) Cut(node string, networks ...string) {
	s.t.Helper()
	s.Tell("%s: is cut off: %s", node, strings.Join(networks, ", "))
	for _, n := range networks {
		s.Check(s.Lab.Cut(context.Background(), node, n))
	}
}

// Heal plugs them in again.
func (s *Stage) Heal(node string, networks ...string) {
	s.t.Helper()
	s.Tell("%s: is connected again: %s", node, strings.Join(networks, ", "))
	for _, n := range networks {
		s.Check(s.Lab.Heal(context.Background(), node, n))
	}
}

// DropPort has a node send nothing to a TCP port of others, on any network: a rule of
// its kernel's routing drops it, so that connections stand and say nothing.
func (s *Stage) DropPort(node, port string) {
	s.t.Helper()
	s.Tell("%s: what it sends to port %s is lost", node, port)
	s.run(node, "ip", "rule", "add", "pref", "10", "ipproto", "tcp", "dport", port, "blackhole")
}

// PassPort undoes DropPort.
func (s *Stage) PassPort(node, port string) {
	s.t.Helper()
	s.Tell("%s: reaches port %s again", node, port)
	s.run(node, "ip", "rule", "del", "pref", "10")
}

// Signal sends a daemon a signal.
func (s *Stage) Signal(node, daemon string, sig syscall.Signal) {
	s.t.Helper()
	s.Tell("%s: %s gets %v", node, daemon, sig)
	s.Check(s.Lab.SignalDaemon(context.Background(), node, daemon, sig))
}

// Freeze stops a daemon where it stands; Thaw lets it go on.
func (s *Stage) Freeze(node, daemon string) {
	s.t.Helper()
	s.Tell("%s: %s hangs", node, daemon)
	s.run(node, "pkill", "-STOP", "-x", daemon)
}

// Thaw lets a daemon go on that hangs.
func (s *Stage) Thaw(node, daemon string) {
	s.t.Helper()
	s.Tell("%s: %s wakes", node, daemon)
	s.run(node, "pkill", "-CONT", "-x", daemon)
}

// Replace has noded replaced by the program that is installed, under its machines.
func (s *Stage) Replace(node string) {
	s.t.Helper()
	s.Tell("%s: noded is replaced", node)
	s.run(node, "pkill", "-HUP", "-f", "noded --config")
}

// KillHolder ends the process that holds a node's mounts.
func (s *Stage) KillHolder(node string) {
	s.t.Helper()
	s.Tell("%s: the holder is killed", node)
	s.run(node, "pkill", "-KILL", "-f", "noded hold")
}

// Crash ends the machine's process on a node.
func (s *Stage) Crash(node string) {
	s.t.Helper()
	s.Tell("%s: the machine's process is killed", node)
	s.run(node, "pkill", "-KILL", "-f", "qemu-system.*guest="+Machine)
}

// run runs a command on a node, which must succeed.
func (s *Stage) run(node string, argv ...string) {
	s.t.Helper()
	code, err := s.Lab.Exec(context.Background(), node, argv, box.Stdio{})
	if err != nil || code != 0 {
		s.t.Fatalf("%s: %s: status %d, %v", node, strings.Join(argv, " "), code, err)
	}
}

// Sh runs a line of shell on a node, and returns what it said and its exit status.
func (s *Stage) Sh(node, line string) (string, int) {
	s.t.Helper()
	var out bytes.Buffer
	code, err := s.Lab.Exec(context.Background(), node, []string{"sh", "-c", line}, box.Stdio{Out: &out, Err: &out})
	s.Check(err)
	return strings.TrimSpace(out.String()), code
}

// Mounted tells whether a node has a directory mounted.
func (s *Stage) Mounted(node, dir string) bool {
	s.t.Helper()
	code, err := s.Lab.Exec(context.Background(), node, []string{"mountpoint", "-q", dir}, box.Stdio{})
	s.Check(err)
	return code == 0
}

// StopSAN ends the SAN's target; it forgets its reservations.
func (s *Stage) StopSAN() {
	s.t.Helper()
	s.Tell("the SAN goes down")
	s.Check(s.Lab.StopSAN(context.Background()))
}

// StartSAN starts it again.
func (s *Stage) StartSAN() {
	s.t.Helper()
	s.Tell("the SAN is back")
	s.Check(s.Lab.StartSAN(context.Background()))
}

// serveFor is for how long a slow SAN serves between two pauses.
const serveFor = 20 * time.Millisecond

// WhileSANIsSlow plays with a SAN that stands still for a pause, again and again, so
// that an answer may take that long.
func (s *Stage) WhileSANIsSlow(pause time.Duration, play func()) {
	s.t.Helper()
	s.Tell("the SAN gets slow: an answer takes up to %v", pause)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.slow(pause, stop) }()
	defer func() {
		close(stop)
		s.Check(<-done)
		s.Tell("the SAN is as fast as before")
	}()
	play()
}

func (s *Stage) slow(pause time.Duration, stop <-chan struct{}) error {
	for {
		if err := s.Lab.HangSAN(context.Background()); err != nil {
			return err
		}
		time.Sleep(pause)
		if err := s.Lab.WakeSAN(context.Background()); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-time.After(serveFor):
		}
	}
}

// stateDir is where clusterd keeps its log.
const stateDir = "/var/lib/quorate"

// LittleRoom moves what a node's daemons keep to a file system that has room for
// little more, and gives none to blocks of zeros, as one that is provisioned thinly
// does. It is lost with the node's power.
func (s *Stage) LittleRoom(node string) {
	s.t.Helper()
	s.Tell("%s: its disk has little room left", node)
	s.Signal(node, "clusterd", syscall.SIGTERM)
	s.run(node, "sh", "-ec", "mkdir -p /run/was && cp -a "+stateDir+"/. /run/was/ && mount -t tmpfs -o size=16m tmpfs "+stateDir+
		" && cp -a --sparse=always /run/was/. "+stateDir+"/ && rm -r /run/was")
	s.StartDaemon(node, "clusterd")
}

// FillDisk takes all the room that LittleRoom left.
func (s *Stage) FillDisk(node string) {
	s.t.Helper()
	s.Tell("%s: its disk is full", node)
	s.run(node, "sh", "-c", "! dd if=/dev/zero of="+stateDir+"/someones bs=4k")
}

// FreeDisk gives it back.
func (s *Stage) FreeDisk(node string) {
	s.t.Helper()
	s.Tell("%s: its disk has room again", node)
	s.run(node, "rm", stateDir+"/someones")
}

// TakeLUN takes one LUN away from all nodes.
func (s *Stage) TakeLUN(name string) {
	s.t.Helper()
	s.Tell("the SAN's LUN %s is gone", name)
	s.Check(s.Lab.TakeLUN(context.Background(), name))
}

// GiveLUN gives it back.
func (s *Stage) GiveLUN(name string) {
	s.t.Helper()
	s.Tell("the SAN's LUN %s is back", name)
	s.Check(s.Lab.GiveLUN(context.Background(), name))
}

// GrowLUN makes a LUN larger; the SAN restarts by that.
func (s *Stage) GrowLUN(name string, by int64) {
	s.t.Helper()
	s.Tell("the SAN's LUN %s is made larger by %d MiB, and the SAN restarts", name, by>>20)
	s.Check(s.Lab.GrowLUN(context.Background(), name, by))
}

// StartDaemon starts one that was ended.
func (s *Stage) StartDaemon(node, daemon string) {
	s.t.Helper()
	s.Tell("%s: %s is started", node, daemon)
	s.Check(s.Lab.StartDaemon(context.Background(), node, daemon))
}

// Upgrade ends a node's daemons in good order and starts those of this version.
func (s *Stage) Upgrade(node string) {
	s.t.Helper()
	s.Tell("%s: is upgraded", node)
	for _, d := range []string{"clusterd", "noded"} {
		s.Check(s.Lab.StopDaemon(context.Background(), node, d))
	}
	s.Check(s.Lab.Install(node, bin))
	for _, d := range []string{"noded", "clusterd"} {
		s.Check(s.Lab.StartDaemon(context.Background(), node, d))
	}
	s.Answers(node)
}

// Pass lets time pass where that is what happens: while nobody is there whose
// condition could be waited for.
func (s *Stage) Pass(d time.Duration) {
	s.t.Helper()
	s.Tell("%v pass", d)
	time.Sleep(d)
}
