package scenarios

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"quorate/test/lab/box"
	"quorate/test/stage"
)

// onVolume is the folder in which scenarios write files of their own.
const onVolume = "/ClusterStorage/" + volume

// writersEnd is how long two programs that write at once may take.
const writersEnd = 5 * time.Minute

// writers: programs on both nodes write to one file of a volume at once, beside the
// running machine.
func writers() []scenario {
	return []scenario{
		{
			name: "two-nodes-write", story: "fio on both nodes at once writes to one file and reads back, each its own half and then every other block; then each verifies what the other wrote", nodes: 2,
			play: func(s *stage.Stage) {
				if _, err := exec.LookPath("fio"); err != nil {
					s.Skip("fio is not installed (Debian: fio)")
				}
				fio(s)
			},
		},
		{
			name: "two-nodes-append", story: "programs on both nodes append lines to one file, under an OFD lock at what they see as its end, and under flock with O_APPEND", nodes: 2,
			play: func(s *stage.Stage) {
				appended(s, lockOFD, 3000)
				appended(s, lockFlock, 2000)
			},
		},
	}
}

// half is what each node has of the file that both write, in MiB.
const half = 32

// fio plays with the program of that name. What is written in one pass differs from
// what was there before, where it is a pattern; where it is not, its checksummed
// blocks say where they belong.
func fio(s *stage.Stage) {
	file := onVolume + "/fio"
	args := func(more ...string) []string {
		return append([]string{
			"fio", "--name=pass", "--filename=" + file, "--direct=1", "--ioengine=libaio", "--iodepth=16", "--fallocate=none",
			"--verify_fatal=1", "--verify_interval=4k", "--output-format=terse",
		}, more...)
	}
	at := func(i int) []string {
		return []string{fmt.Sprintf("--offset=%dm", i*half), fmt.Sprintf("--size=%dm", half)}
	}
	between := func(i int) []string {
		return []string{
			"--zonemode=strided", "--zonesize=4k", "--zonerange=4k", "--zoneskip=4k", fmt.Sprintf("--offset=%dk", i*4), fmt.Sprintf("--size=%dm", half),
		}
	}
	sums := func(int) []string { return []string{"--verify=crc32c"} }
	pattern := func(pass int) func(i int) []string {
		return func(i int) []string {
			return []string{"--verify=pattern", fmt.Sprintf("--verify_pattern=0x%02x%02x", pass, i+1)}
		}
	}
	mixed := []string{"--rw=randwrite", "--bssplit=4k/40:16k/30:64k/20:256k/10"}
	sh(s, "s1", fmt.Sprintf("truncate -s %dM %s", 2*half, file))
	defer sh(s, "s2", "rm "+file)
	for _, p := range []struct {
		what        string
		where, with func(i int) []string
		write, read []string
	}{
		{"4 KiB at random, with checksums", at, sums, []string{"--rw=randwrite", "--bs=4k", "--verify_backlog=256"}, []string{"--rw=read", "--bs=64k"}},
		{"4 to 256 KiB at random, with a pattern, flushed after each 64", at, pattern(2), append(mixed, "--fsync=64", "--do_verify=0"), []string{"--rw=randread", "--bs=4k"}},
		{"every other 4 KiB of the whole file", between, pattern(3), []string{"--rw=write", "--bs=4k", "--do_verify=0"}, []string{"--rw=read", "--bs=4k"}},
		{"4 to 256 KiB at random, with checksums", at, sums, mixed, []string{"--rw=read", "--bs=1m"}},
	} {
		atOnce(s, p.what+": written", func(i int, _ string) []string {
			return args(append(append(p.where(i), p.with(i)...), p.write...)...)
		})
		atOnce(s, p.what+": verified by the other node", func(i int, _ string) []string {
			return args(append(append(p.where(1-i), p.with(1-i)...), p.read...)...)
		})
	}
}

// atOnce runs a command on each node at the same time; all must succeed.
func atOnce(s *stage.Stage, what string, argv func(i int, node string) []string) {
	ctx, cancel := context.WithTimeout(context.Background(), writersEnd)
	defer cancel()
	began := time.Now()
	nodes := s.Lab.Nodes()
	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			var out bytes.Buffer
			code, err := s.Lab.Exec(ctx, node, argv(i, node), box.Stdio{Out: &out, Err: &out})
			if err == nil && code != 0 {
				err = fmt.Errorf("%s: %q: exit status %d: %s", node, argv(i, node), code, last(out.String()))
			}
			errs[i] = err
		})
	}
	wg.Wait()
	s.Check(errors.Join(errs...))
	s.Tell("%s, in %.1f s", what, time.Since(began).Seconds())
}

// sh is a line of shell that must succeed.
func sh(s *stage.Stage, node, line string) string {
	out, code := s.Sh(node, line)
	if code != 0 {
		s.Fatalf("%s: %s: exit status %d: %s", node, line, code, out)
	}
	return out
}

// appended lets both nodes append, and reads on both what came of it.
func appended(s *stage.Stage, lock string, lines int) {
	file := onVolume + "/appended-" + lock
	exe, err := os.Executable()
	s.Check(err)
	sh(s, "s1", ": > "+file)
	atOnce(s, fmt.Sprintf("%d lines by each under %s", lines, lock), func(_ int, node string) []string {
		return []string{"env", appendEnv + "=1", exe, lock, file, node, fmt.Sprint(lines)}
	})
	texts := map[string]string{}
	for _, node := range s.Lab.Nodes() {
		texts[node] = sh(s, node, "cat "+file)
		turns, err := judgeLines(texts[node], s.Lab.Nodes(), lines)
		if err != nil {
			s.Fatalf("%s, seen from %s: %v", file, node, err)
		}
		s.Tell("%s: all lines are there, whole, once and in order; the nodes took turns %d times", node, turns)
	}
	if texts["s1"] != texts["s2"] {
		s.Fatalf("%s: the nodes do not see the same", file)
	}
	sh(s, "s2", "rm "+file)
}

// judgeLines tells how often the writers took turns, or what is wrong.
func judgeLines(text string, nodes []string, lines int) (turns int, err error) {
	next := map[string]int{}
	before := ""
	for n, line := range strings.Split(strings.TrimSpace(text), "\n") {
		node, _, _ := strings.Cut(line, " ")
		if line != lineOf(node, next[node]) {
			return 0, fmt.Errorf("line %d is %q; number %d of %s was due", n+1, line, next[node], node)
		}
		if next[node]++; node != before {
			turns++
		}
		before = node
	}
	for _, node := range nodes {
		if next[node] != lines {
			return 0, fmt.Errorf("%d lines of %s, %d were written", next[node], node, lines)
		}
	}
	return turns, nil
}
