package e2e

import (
	"strings"
	"testing"

	"quorate/test/stage"
)

// TestEnrolment: nodes are let in by their lines, once; what is wrong is refused
// with the reason.
func TestEnrolment(t *testing.T) {
	s := stage.Raise(t, 2)
	line := strings.TrimSpace(s.Must("s2", "node", "enroll"))
	parts := strings.Split(line, ",")
	if len(parts) != 5 {
		t.Fatalf("the line is %q", line)
	}
	forged := func(i int, v string) string {
		p := append([]string(nil), parts...)
		p[i] = v
		return strings.Join(p, ",")
	}
	create := func(spec string) (string, int) {
		_, errs, code := s.Ctl("s1", "create", "--name", "c1", "--node", "s1", "--node", spec)
		return errs, code
	}
	if errs, code := create(forged(3, strings.Repeat("ab", 32))); code == 0 || !strings.Contains(errs, "enrolment line names") {
		t.Fatalf("a wrong fingerprint: %d, %s", code, errs)
	}
	if errs, code := create(forged(4, strings.Repeat("A", 43))); code == 0 || !strings.Contains(errs, "secret") {
		t.Fatalf("a wrong secret: %d, %s", code, errs)
	}
	if errs, code := create("no,line"); code != 2 {
		t.Fatalf("no line: %d, %s", code, errs)
	}
	s.Must("s1", "create", "--name", "c1", "--node", "s1", "--node", line)
	if _, errs, code := s.Ctl("s1", "node", "add", "--node", line); code == 0 || !strings.Contains(errs, "already") {
		t.Fatalf("a used line: %d, %s", code, errs)
	}
	if _, errs, code := s.Ctl("s2", "create", "--name", "c2", "--node", "s2"); code != 4 || !strings.Contains(errs, "already") {
		t.Fatalf("a member founds another cluster: %d, %s", code, errs)
	}
}
