package node

import (
	"errors"
	"os"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
	"quorate/quorum/witness"
)

// TestDirectoryIsTestedBeforeItIsAVolume: what cannot be shared is refused by name and
// left as it was; one node alone can take what its operator vouches for.
func TestDirectoryIsTestedBeforeItIsAVolume(t *testing.T) {
	n := alone(t, t.TempDir())
	if err := n.found(t.Context(), &apipb.CreateRequest{Name: "c"}, nil); err != nil {
		t.Fatal(err)
	}
	m := n.current()
	if err := m.waitLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	adopt := func(dir string) (func(bool), error) {
		_, end, err := m.adoptDirectory(t.Context(), dir)
		return end, err
	}
	left := func() int {
		t.Helper()
		names, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	for _, bad := range []string{"relative", dir + "/"} {
		if _, err := adopt(bad); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := adopt(dir); connect.CodeOf(err) != connect.CodeFailedPrecondition || !errors.Is(err, witness.ErrUnshared) || left() > 0 {
		t.Fatalf("a local directory: %v, %d names are left", err, left())
	}
	n.opt.DirectoryGuard = func(string) (string, error) { return "nfs4", nil }
	end, err := adopt(dir)
	if err != nil || left() != 1 {
		t.Fatalf("%v, %d names are left", err, left())
	}
	if _, err := adopt(dir); err == nil || !strings.Contains(err.Error(), "a volume of a cluster already") {
		t.Fatalf("once more: %v", err)
	}
	end(false)
	if left() > 0 {
		t.Fatal("its mark is left, and it is no volume")
	}
	answer := func(q *apipb.AnswerDirectoryRequest) (*apipb.AnswerDirectoryResponse, error) {
		res, err := n.handler.AnswerDirectory(t.Context(), connect.NewRequest(q))
		if err != nil {
			return nil, err
		}
		return res.Msg, nil
	}
	if _, err := answer(&apipb.AnswerDirectoryRequest{Path: dir, Test: "../x"}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a test that lies elsewhere: %v", err)
	}
	if res, err := answer(&apipb.AnswerDirectoryRequest{Path: dir, Test: "x", Nonce: "n"}); err != nil || !strings.Contains(res.Error, "another directory") {
		t.Errorf("a test of another directory: %v, %v", res, err)
	}
}
