package stage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

// watch follows the machine's console on a node while the node has power.
func (s *Stage) watch(node string) {
	ctx, cancel := context.WithCancel(context.Background())
	s.mu.Lock()
	if stop := s.watching[node]; stop != nil {
		stop()
	}
	s.watching[node] = cancel
	name := filepath.Join(s.dir, fmt.Sprintf("console-%s-%d", node, len(s.consoles)))
	s.consoles = append(s.consoles, name)
	s.mu.Unlock()
	out, err := os.Create(name)
	s.Check(err)
	s.wg.Go(func() {
		defer out.Close()
		_, _ = s.Lab.Exec(ctx, node, []string{"tail", "-q", "-s", "0.05", "-c", "+1", "-F", "/run/quorate/machines/" + Machine + "/console.log"}, box.Stdio{Out: out})
	})
}

// Console is all that the machine said so far.
func (s *Stage) Console() guest.Console {
	s.t.Helper()
	s.mu.Lock()
	files := slices.Clone(s.consoles)
	s.mu.Unlock()
	var parts []guest.Console
	for _, name := range files {
		f, err := os.Open(name)
		s.Check(err)
		c, err := guest.ParseConsole(f)
		f.Close()
		s.Check(err)
		parts = append(parts, c)
	}
	return guest.Merge(parts...)
}

// Counts waits until the machine has written something more.
func (s *Stage) Counts() {
	s.t.Helper()
	from := s.Console().Last()
	s.Eventually("the machine writes", func() error {
		if now := s.Console().Last(); now < from+5 {
			return fmt.Errorf("its last number is %d, was %d", now, from)
		}
		return nil
	})
}

// The counter's region on the machine's disk, in MiB (see package guest).
const regionAt, regionLen = 64, 16

// Acknowledged reads the running machine's disk on every node, past all caches, and
// finds there what the machine has said until then. A node that has just come back
// may not have the volume yet, and is waited for.
func (s *Stage) Acknowledged() {
	s.t.Helper()
	for _, n := range s.Lab.Nodes() {
		var said guest.Console
		var region []byte
		s.Eventually(n+" reads the machine's disk", func() error {
			said = s.Console()
			var out, errs bytes.Buffer
			code, err := s.Lab.Exec(context.Background(), n, []string{
				"dd", "if=" + disk0, "iflag=direct", "bs=1M", fmt.Sprintf("skip=%d", regionAt), fmt.Sprintf("count=%d", regionLen), "status=none",
			}, box.Stdio{Out: &out, Err: &errs})
			if err != nil {
				return err
			}
			if code != 0 {
				return fmt.Errorf("exit status %d: %s", code, errs.String())
			}
			region = out.Bytes()
			return nil
		})
		lost, err := guest.Behind(said, region)
		s.Check(err)
		if len(lost) > 0 {
			s.t.Fatalf("seen from %s, lost: %v", n, lost)
		}
	}
}

// disk0 is the machine's disk.
const disk0 = "/ClusterStorage/Volume1/" + Machine + "/disk0.raw"

// Verify stops the machine and compares what it said was acknowledged with what
// its disk holds.
func (s *Stage) Verify() {
	s.t.Helper()
	s.Must("s1", "vm", "stop", Machine)
	copied := filepath.Join(s.dir, "disk0.raw")
	f, err := os.Create(copied)
	s.Check(err)
	code, err := s.Lab.Exec(context.Background(), "s1", []string{"cat", disk0}, box.Stdio{Out: f, Err: os.Stderr})
	if err := errors.Join(err, f.Close()); err != nil || code != 0 {
		s.t.Fatalf("read the disk: %v, %d", err, code)
	}
	report, err := guest.Verify(copied)
	s.Check(err)
	c := s.Console()
	if lost := guest.Lost(c, report); len(lost) > 0 {
		s.t.Fatalf("lost: %v", lost)
	}
	s.Tell("%d acknowledged writes over %d starts of the guest, none lost", len(c.Ticks), len(c.Boots))
}
