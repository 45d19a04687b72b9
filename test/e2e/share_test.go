package e2e

import (
	"strings"
	"testing"

	"quorate/test/stage"
)

// TestShareThatCannotGuardIsRefused: a witness on a share, and a volume in a directory,
// is refused where the file system cannot guard it, with the reason, and nothing changes
// or is left there.
func TestShareThatCannotGuardIsRefused(t *testing.T) {
	s := stage.Raise(t, 2)
	s.Create()
	s.Must("s1", "csv", "enable")
	s.Must("s1", "csv", "add", "--name", "Volume1")
	for dir, why := range map[string]string{
		"/var/lib/quorate": "local to one node", "/ClusterStorage/Volume1": "depends on the quorum", "/proc": "local to one node", "/nowhere": "no such file",
	} {
		if _, errs, code := s.Ctl("s1", "quorum", "set", "node-and-share-majority", "--share", dir); code != 4 || !strings.Contains(errs, why) {
			t.Errorf("%s: exit status %d: %s", dir, code, errs)
		} else {
			s.Tell("%s", strings.TrimSpace(errs))
		}
	}
	for dir, why := range map[string]string{
		"/var/lib/quorate": "local to one node", "/ClusterStorage/Volume1": "cluster shared volume already", "/nowhere": "no such file",
	} {
		if _, errs, code := s.Ctl("s1", "csv", "add", "--path", dir); code != 4 || !strings.Contains(errs, why) {
			t.Errorf("%s: exit status %d: %s", dir, code, errs)
		} else {
			s.Tell("%s", strings.TrimSpace(errs))
		}
	}
	if q, err := s.QuorumOf("s2"); err != nil || q.Mode != "node-and-disk-majority" || q.Witness.State != "online" {
		t.Fatalf("%+v, %v", q, err)
	}
}
