package mount_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// skippedSuites are of what Linux does not have.
var skippedSuites = []string{"granular", "chflags"}

// TestPOSIX runs pjdfstest, whose folder PJDFSTEST names (built there, with its program
// beside its tests), on a mount of a volume. Nothing is known to fail.
func TestPOSIX(t *testing.T) {
	suite := os.Getenv("PJDFSTEST")
	if suite == "" {
		t.Skip("PJDFSTEST names no folder with pjdfstest in it (https://github.com/pjd/pjdfstest)")
	}
	r := newRig(t, memoryLUN(512<<20))
	m := r.mount(1)
	tests, err := filepath.Glob(filepath.Join(suite, "tests", "*", "*.t"))
	must(t, err)
	if len(tests) == 0 {
		t.Fatalf("there are no tests in %s", suite)
	}
	passed, failed := 0, 0
	for _, file := range tests {
		kind := filepath.Base(filepath.Dir(file))
		if strings.Contains(strings.Join(skippedSuites, " "), kind) {
			continue
		}
		t.Run(kind+"/"+filepath.Base(file), func(t *testing.T) {
			p, f := posix(t, m.dir, file)
			passed, failed = passed+p, failed+len(f)
			for _, line := range f {
				t.Error(line)
			}
		})
	}
	t.Logf("%d assertions hold, %d do not", passed, failed)
}

var plan = regexp.MustCompile(`(?m)^1\.\.(\d+)`)

// posix runs one file of tests (TAP), and returns what holds and what does not.
func posix(t *testing.T, dir, file string) (passed int, failed []string) {
	t.Helper()
	cmd := exec.Command("sh", file)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	text := string(out)
	planned := 0
	if m := plan.FindStringSubmatch(text); m != nil {
		planned, _ = strconv.Atoi(m[1])
	}
	for _, line := range strings.Split(text, "\n") {
		switch {
		case strings.HasPrefix(line, "ok"):
			passed++
		case strings.HasPrefix(line, "not ok") && !strings.Contains(line, "# TODO"):
			failed = append(failed, line)
		case strings.HasPrefix(line, "not ok"): // of Linux, as its authors know
			passed++
		}
	}
	if err != nil || planned != passed+len(failed) {
		failed = append(failed, "planned "+strconv.Itoa(planned)+", ran "+strconv.Itoa(passed+len(failed)))
	}
	return passed, failed
}
