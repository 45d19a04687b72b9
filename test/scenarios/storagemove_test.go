package scenarios

import (
	"fmt"
	"strings"
	"sync"
	"syscall"

	"quorate/test/stage"
)

const secondVolume = "Volume2"

// storageMoves: a machine goes from one volume to another, and what can go wrong
// meanwhile.
func storageMoves() []scenario {
	return []scenario{{
		name: "move-storage", story: "the machine moves to another volume while it writes, and back; a move is cancelled, and clusterd, the machine and the node are lost during one", nodes: 2, fresh: true,
		play: storageMoved,
	}}
}

func storageMoved(s *stage.Stage) {
	s.Create()
	s.Furnish()
	s.Must("s1", "csv", "add")
	s.Eventually("both nodes have both volumes", func() error { return livesOn(s, volume, secondVolume) })
	boots := len(s.Console().Boots)

	s.Tell("%s", last(s.Must("s2", "vm", "move-storage", stage.Machine, "--to", secondVolume)))
	s.Check(livesOn(s, secondVolume, volume))
	s.Counts()
	s.Home("s2")
	s.Must("s1", "vm", "move-storage", stage.Machine, "--to", volume)
	s.Check(livesOn(s, volume, secondVolume))
	s.Healthy()
	if n := len(s.Console().Boots); n != boots {
		s.Fatalf("it started %d times on the way", n-boots)
	}

	whileCopied(s, func() { s.Must("s1", "vm", "move-storage", stage.Machine, "--cancel") })
	whileCopied(s, func() {
		s.Signal("s2", "clusterd", syscall.SIGKILL)
		s.StartDaemon("s2", "clusterd")
	})
	if n := len(s.Console().Boots); n != boots {
		s.Fatalf("it started %d times on the way", n-boots)
	}
	whileCopied(s, func() { s.Crash("s2") })
	whileCopied(s, func() {
		_, _, before := s.MustStatus("s1").Owner()
		s.Kill("s2")
		s.MovedTo("s1", before)
		s.Start("s2")
	})
	s.Healthy()

	s.Must("s1", "vm", "stop", stage.Machine)
	s.Tell("%s", last(s.Must("s2", "vm", "move-storage", stage.Machine, "--to", secondVolume)))
	s.Check(livesOn(s, secondVolume, volume))
	s.Must("s1", "vm", "start", stage.Machine)
	s.Must("s1", "vm", "move-storage", stage.Machine, "--to", volume)
	for _, v := range []string{volume, secondVolume} {
		s.Tell("%s", s.Must("s2", "csv", "check", v))
	}
	s.Verify()
}

// livesOn says whether the machine's folder is on one volume, seen from all nodes, and
// not on the other.
func livesOn(s *stage.Stage, on, not string) error {
	for _, n := range s.Lab.Nodes() {
		for _, v := range []string{on, not} {
			if !s.Mounted(n, "/ClusterStorage/"+v) {
				return fmt.Errorf("%s has no %s", n, v)
			}
		}
		if out, code := s.Sh(n, "cat /ClusterStorage/"+on+"/"+stage.Machine+"/"+stage.Machine+".yaml"); code != 0 {
			return fmt.Errorf("%s does not see it on %s: %s", n, on, out)
		}
		if out, code := s.Sh(n, "ls -A /ClusterStorage/"+not); code != 0 || strings.Contains(out, stage.Machine) {
			return fmt.Errorf("%s sees on %s: %s", n, not, out)
		}
	}
	return nil
}

// whileCopied does something while the machine is slowly copied to the second volume:
// the move fails, the machine writes on, and nothing of the copy is left.
func whileCopied(s *stage.Stage, do func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		out, errs, code := s.Ctl("s1", "vm", "move-storage", stage.Machine, "--to", secondVolume, "--bandwidth", "2MiB")
		s.Tell("the move between volumes ended with exit status %d: %s%s", code, last(out), last(errs))
		if code == 0 {
			s.Fatalf("it went to %s", secondVolume)
		}
	})
	s.Eventually("it is being copied", func() error {
		if out, code := s.Sh("s1", "ls /ClusterStorage/"+secondVolume+"/"+stage.Machine+"/disk0.raw"); code != 0 {
			return fmt.Errorf("%s", out)
		}
		return nil
	})
	do()
	s.Eventually("it is where it was, and nothing is left", func() error { return livesOn(s, volume, secondVolume) })
	wg.Wait()
	s.Counts()
}
