package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	command "os/exec"
	"strings"
	"testing"

	"quorate/cluster"
	"quorate/test/stage"
)

// git asks git about the history of these sources, if there is any.
func git(args ...string) (string, error) {
	out, err := command.Command("git", append([]string{"-C", "../.."}, args...)...).Output()
	return strings.TrimSpace(string(out)), err
}

// programsOf builds the programs of an earlier commit.
func programsOf(t *testing.T, commit string) string {
	t.Helper()
	tree, bin := t.TempDir(), t.TempDir()
	archive := command.Command("git", "-C", "../..", "archive", commit)
	unpack := command.Command("tar", "-x", "-C", tree)
	var said bytes.Buffer
	archive.Stderr, unpack.Stderr = &said, &said
	pipe, err := archive.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	unpack.Stdin = pipe
	if err := archive.Start(); err != nil {
		t.Fatal(err)
	}
	if err := unpack.Run(); err != nil {
		t.Fatalf("unpack %s: %v: %s", commit, err, &said)
	}
	if err := archive.Wait(); err != nil {
		t.Fatalf("unpack %s: %v: %s", commit, err, &said)
	}
	build := command.Command("go", "build", "-buildvcs=false", "-ldflags", "-X quorate/cluster.Version="+commit[:7], "-o", bin+"/", "./cmd/clusterd", "./cmd/noded", "./cmd/clusterctl")
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v: %s", commit, err, out)
	}
	return bin
}

// TestRollingUpgrade takes a cluster from the commit before to this one, node after
// node, with a machine running all the while; and so from the last commit whose
// database was of an older format.
func TestRollingUpgrade(t *testing.T) {
	before, err := git("rev-parse", "--verify", "-q", "HEAD~1")
	if err != nil {
		t.Skip("there is no commit before this one here (a shallow or exported copy): nothing to upgrade from")
	}
	t.Run("commit before", func(t *testing.T) { roll(t, before) })
	raised, err := git("log", "-1", "--format=%H", "-G^const Format = ", "--", "cluster/format.go")
	older, noOlder := git("rev-parse", "--verify", "-q", raised+"~1")
	if err != nil || raised == "" || noOlder != nil || older == before {
		return // it was the one before, or lies before the history that is here
	}
	t.Run("format before", func(t *testing.T) { roll(t, older) })
}

// format is what `cluster show` tells of it.
type format struct {
	Format          uint32
	FormatReachable uint32   `json:"format_reachable"`
	FormatWaits     []string `json:"format_waits"`
}

func formatOf(s *stage.Stage, node string) (f format) {
	s.Check(json.Unmarshal([]byte(s.Must(node, "cluster", "show", "-o", "json")), &f))
	return f
}

func roll(t *testing.T, from string) {
	s := stage.RaiseWith(t, 2, programsOf(t, from))
	s.Tell("the nodes have the programs of %s", from[:7])
	s.Create()
	s.Furnish()
	s.Healthy()
	boots := len(s.Console().Boots)
	s.Upgrade("s2")
	s.Healthy()
	if f := formatOf(s, "s2"); f.Format < cluster.Format {
		// s1 cannot more yet: nothing moves, and it is told why.
		if _, errs, code := s.Ctl("s2", "cluster", "upgrade"); code == 0 || !strings.Contains(errs, "s1") {
			t.Fatalf("exit status %d: %s", code, errs)
		}
		s.Tell("the database stays at format %d: %v", f.Format, f.FormatWaits)
	}
	s.Home("s2")
	s.Upgrade("s1")
	s.Healthy()
	s.Eventually("both nodes say what they can", func() error {
		if f := formatOf(s, "s1"); f.FormatReachable != cluster.Format || len(f.FormatWaits) > 0 {
			return fmt.Errorf("%+v", f)
		}
		return nil
	})
	s.Must("s1", "cluster", "upgrade")
	if f := formatOf(s, "s2"); f.Format != cluster.Format {
		t.Fatalf("%+v", f)
	}
	s.Tell("the database is of format %d", cluster.Format)
	s.Home("s1")
	s.Healthy()
	if n := len(s.Console().Boots); n != boots {
		t.Fatalf("the machine started %d times meanwhile", n-boots)
	}
}
