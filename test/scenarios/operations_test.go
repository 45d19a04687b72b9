package scenarios

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"quorate/test/stage"
)

// sizeOf is how large the volume is, in bytes.
func sizeOf(s *stage.Stage) int64 {
	var v struct {
		Size int64 `json:"size"`
	}
	s.Check(json.Unmarshal([]byte(s.Must("s1", "csv", "show", volume, "-o", "json")), &v))
	return v.Size
}

// coordinatorPort is where noded listens for the clients of volumes.
const coordinatorPort = "7401"

// pidOf is the machine's process on a node.
func pidOf(s *stage.Stage, node string) string {
	pid, code := s.Sh(node, "pgrep -f 'qemu-system.*guest="+stage.Machine+"' | head -1")
	if code != 0 || pid == "" {
		s.Fatalf("%s has no process of the machine", node)
	}
	return pid
}

// smallest is the disk that is available and holds least.
func smallest(s *stage.Stage) string {
	var disks []struct {
		Name, Role string
		Size       int64
	}
	s.Check(json.Unmarshal([]byte(s.Must("s1", "disk", "list", "-o", "json")), &disks))
	best := -1
	for i, d := range disks {
		if d.Role == "available" && (best < 0 || d.Size < disks[best].Size) {
			best = i
		}
	}
	if best < 0 {
		s.Fatalf("no disk is free: %+v", disks)
	}
	return disks[best].Name
}

// operations: what an administrator does with a volume, under a running machine.
func operations() []scenario {
	return []scenario{
		{
			name: "volume-grown", story: "the volume's LUN is made larger, and the volume takes that in under the running machine", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				const by = 1 << 30
				before := sizeOf(s)
				if _, errs, code := s.Ctl("s1", "csv", "grow", volume); code != 4 {
					s.Fatalf("a LUN that has not grown: exit status %d, %s", code, errs)
				}
				s.GrowLUN("V", by)
				s.Healthy()
				s.Tell("%s", s.Must("s2", "csv", "grow", volume))
				if got := sizeOf(s) - before; got != by {
					s.Fatalf("it grew by %d bytes", got)
				}
				s.Counts() // new space is taken behind the old end first
				s.Home("s2")
				s.Counts()
				to := s.Other(showVolume(s, "s1").Coordinator)
				s.Must("s1", "csv", "move", volume, "--to", to)
				s.Eventually("it has its size at its next coordinator", func() error {
					if got := sizeOf(s) - before; got != by {
						return fmt.Errorf("it has %d bytes more than it had", got)
					}
					return nil
				})
				s.Counts()
				s.Tell("%s", s.Must("s2", "csv", "check", volume))
			},
		},
		{
			name: "volume-maintenance", story: "the volume is closed for maintenance, its machine stopped for that; a node comes up meanwhile and leaves it alone; then all is as before", nodes: 2,
			play: func(s *stage.Stage) {
				s.Home("s1")
				if _, errs, code := s.Ctl("s1", "csv", "maintenance", "on", volume); code != 4 || !strings.Contains(errs, stage.Machine) {
					s.Fatalf("with a machine that runs: exit status %d, %s", code, errs)
				}
				s.Counts()
				s.Tell("%s", s.Must("s2", "csv", "maintenance", "on", volume, "--stop"))
				closed := func() error {
					for _, n := range s.Lab.Nodes() {
						for _, on := range showVolume(s, n).On {
							if on.State != "maintenance" {
								return fmt.Errorf("%s says that it is %s on %s", n, on.State, on.Node)
							}
						}
						if s.Processes(n) > 0 || s.Mounted(n, "/ClusterStorage/"+volume) {
							return fmt.Errorf("%s has a process of the machine, or the volume mounted", n)
						}
					}
					return nil
				}
				s.Check(closed())
				s.Tell("%s", s.Must("s1", "csv", "check", volume, "--repair"))
				s.Eventually("it is closed after the repair", closed)
				other := s.Other(showVolume(s, "s1").Coordinator)
				for _, n := range []string{other, s.Other(other)} {
					s.Kill(n)
					s.Eventually(n+" is down", func() error {
						st, err := s.StatusOf(s.Other(n))
						if err == nil && st.Node(n) != "down" {
							err = fmt.Errorf("it is %s", st.Node(n))
						}
						return err
					})
					s.Start(n)
					s.Eventually("it is closed on every node", func() error {
						if st := s.MustStatus(s.Other(n)).Node(n); st != "up" {
							return fmt.Errorf("%s is %s", n, st)
						}
						return closed()
					})
				}
				s.Tell("%s", s.Must("s1", "csv", "check", volume))
				if _, errs, code := s.Ctl("s1", "vm", "start", stage.Machine); code != 4 {
					s.Fatalf("a machine is started on it: exit status %d, %s", code, errs)
				}
				s.Tell("%s", s.Must("s1", "csv", "maintenance", "off", volume))
				s.Counts()
			},
		},
		{
			name: "volume-removed", story: "the volume is taken out of the cluster, and in again with all that it holds", nodes: 2, fresh: true,
			play: func(s *stage.Stage) {
				s.Create()
				s.Furnish()
				if _, errs, code := s.Ctl("s1", "csv", "remove", volume); code != 4 || !strings.Contains(errs, stage.Machine) {
					s.Fatalf("with a machine on it: exit status %d, %s", code, errs)
				}
				s.Must("s1", "vm", "stop", stage.Machine)
				s.Must("s1", "vm", "remove", stage.Machine)
				var gone struct{ Disk string }
				s.Check(json.Unmarshal([]byte(s.Must("s1", "csv", "remove", volume, "-o", "json")), &gone))
				for _, n := range s.Lab.Nodes() {
					if s.Mounted(n, "/ClusterStorage/"+volume) {
						s.Fatalf("%s has it mounted", n)
					}
				}
				if _, errs, code := s.Ctl("s2", "csv", "add", gone.Disk); code == 0 || !strings.Contains(errs, "--keep") {
					s.Fatalf("its disk is formatted: %s", errs)
				}
				s.Tell("%s", s.Must("s2", "csv", "add", gone.Disk, "--keep"))
				s.Must("s1", "vm", "add", stage.Machine)
				s.Must("s1", "vm", "start", stage.Machine)
				s.Counts()
				s.Tell("%s", s.Must("s1", "csv", "check", volume))
			},
		},
		{
			name: "volume-held-up", story: "a node that has a file open loses its way to the coordinator and nothing else: it renews its lease and has the LUN, and who needs the file waits for it; it is given up, and the volume goes on", nodes: 2,
			play: func(s *stage.Stage) {
				const file = "/ClusterStorage/" + volume + "/held"
				s.Home("s1")
				coordinate(s, "s1")
				if out, code := s.Sh("s2", "(exec 3>"+file+"; echo s2 >&3; exec sleep 600) > /dev/null 2>&1 < /dev/null & until test -s "+file+"; do sleep 0.1; done"); code != 0 {
					s.Fatalf("%s", out)
				}
				_, _, before := s.MustStatus("s1").Owner()
				boots := len(s.Console().Boots)
				s.DropPort("s2", coordinatorPort)
				began := time.Now()
				if out, code := s.Sh("s1", "timeout 90 sh -c 'echo s1 >> "+file+"'"); code != 0 {
					s.Fatalf("who needs the file waits on: exit status %d, %s", code, out)
				}
				took := time.Since(began)
				s.Tell("who needed the file waited %v", took.Round(100*time.Millisecond))
				if took < 10*time.Second {
					s.Fatalf("nobody was waited for")
				}
				s.Counts()
				if out := s.Must("s1", "events"); !strings.Contains(out, "node s2 is down: it holds "+volume+" up") {
					s.Fatalf("the events do not say why: %s", out)
				}
				if _, _, epoch := s.MustStatus("s1").Owner(); epoch != before || len(s.Console().Boots) != boots {
					s.Fatalf("the machine on s1 was started again")
				}
				s.PassPort("s2", coordinatorPort)
				s.Sh("s2", "pkill -f 'sleep 600'")
				s.Healthy()
				s.Eventually("s2 reads what s1 wrote", func() error { // it is attached anew
					if out, _ := s.Sh("s2", "cat "+file); !strings.HasSuffix(out, "s1") {
						return fmt.Errorf("it reads %q", out)
					}
					return nil
				})
				s.Sh("s2", "rm "+file)
			},
		},
		{
			name: "volume-full", story: "the volume is filled up under the running machine, which is paused, and goes on by itself when there is room", nodes: 2, fresh: true,
			play: func(s *stage.Stage) {
				const dir = "/ClusterStorage/" + volume
				s.Create()
				s.Must("s1", "csv", "enable")
				s.Must("s1", "csv", "add", smallest(s), "--name", volume)
				s.Run()
				pid := pidOf(s, "s1")
				if out, code := s.Sh("s2", "head -c 8M /dev/urandom > "+dir+"/other && sync "+dir+"/other && sha256sum "+dir+"/other > /run/other"); code != 0 {
					s.Fatalf("%s", out)
				}
				if out, code := s.Sh("s2", "dd if=/dev/zero of="+dir+"/filler bs=1M"); code == 0 || !strings.Contains(out, "No space left") {
					s.Fatalf("it was not filled up: %s", out)
				}
				s.Tell("the volume is full")
				s.Eventually("the machine is paused", func() error {
					if out := s.Must("s1", "vm", "list"); !strings.Contains(out, volume+" is full") {
						return errors.New(out)
					}
					return nil
				})
				for _, kind := range []string{"volume-space", "volume-full"} {
					if out := s.Must("s1", "events", "-o", "json"); !strings.Contains(out, kind) || !strings.Contains(out, "csv grow "+volume) {
						s.Fatalf("no event %s: %s", kind, out)
					}
				}
				if out, code := s.Sh("s2", "sha256sum -c /run/other"); code != 0 {
					s.Fatalf("another file is not what it was: %s", out)
				}
				s.Sh("s2", "rm "+dir+"/filler")
				s.Tell("there is room again")
				s.Counts()
				if now := pidOf(s, "s1"); now != pid {
					s.Fatalf("the machine's process is %s, and was %s", now, pid)
				}
				if out, code := s.Sh("s2", "sha256sum -c /run/other"); code != 0 {
					s.Fatalf("another file is not what it was: %s", out)
				}
				s.Tell("%s", s.Must("s1", "csv", "check", volume))
				s.Verify()
			},
		},
	}
}
