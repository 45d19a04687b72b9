//go:build cgo

package san

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/iscsi"
	"quorate/test/lab/tgt"
	"quorate/test/lab/tgt/tgttest"
)

const testIQN = "iqn.2026-11.test.quorate:san"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startTarget runs a tgtd on loopback and returns its portal.
func startTarget(t *testing.T, change ...func(*tgt.Options)) (*tgt.Target, string) {
	t.Helper()
	o := tgt.Options{IQN: testIQN, LUNs: []tgt.LUN{
		{Number: 1, Name: "Q", Size: 128 << 20, ID: "51000001", Serial: "Q0001"},
		{Number: 2, Name: "V", Size: 1 << 30, ID: "51000002", Serial: "V0001"},
	}}
	return tgttest.Start(t, o, change...)
}

func openSan(t *testing.T, dir string) *San {
	t.Helper()
	s, err := Open(Options{StateDir: dir, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// TestFavourites keeps a target over a restart, and finds its LUNs by identity,
// serial number and URL.
func TestFavourites(t *testing.T) {
	ctx := t.Context()
	target, portal := startTarget(t)
	dir := t.TempDir()
	s := openSan(t, dir)
	seen, err := s.Discover(ctx, portal, iscsi.CHAP{})
	if err != nil || len(seen) != 1 || len(seen[0].LUNs) != 2 || seen[0].Favourite || seen[0].Error != "" {
		t.Fatalf("discovered %+v, %v", seen, err)
	}
	if kept, _ := s.List(ctx); len(kept) != 0 {
		t.Fatalf("kept without login: %+v", kept)
	}
	if _, err := s.Login(ctx, portal, "iqn.2026-11.test:none", iscsi.CHAP{}); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), testIQN) {
		t.Fatalf("login to a target that is not there: %v", err)
	}
	if _, err := s.Login(ctx, portal, "", iscsi.CHAP{}); err != nil {
		t.Fatal(err)
	}
	s.Close()

	again := openSan(t, dir)
	if again.InitiatorName() != s.InitiatorName() {
		t.Errorf("the initiator name changed from %s to %s", s.InitiatorName(), again.InitiatorName())
	}
	luns, err := again.LUNs(ctx)
	if err != nil || len(luns) != 2 || luns[0].Serial != "Q0001" || luns[0].Holds != "" {
		t.Fatalf("after the restart: %+v, %v", luns, err)
	}
	for _, name := range []string{luns[1].ID, luns[1].Serial, luns[1].URL} {
		if url, err := again.Find(ctx, name); err != nil || url != luns[1].URL {
			t.Errorf("%s: found %q, %v", name, url, err)
		}
	}
	if _, err := again.Find(ctx, "X"); !errors.Is(err, ErrNotFound) {
		t.Errorf("found what is not there: %v", err)
	}
	if fi, err := os.Stat(filepath.Join(dir, "san.yaml")); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("san.yaml: %v, %v", fi.Mode(), err)
	}
	target.Kill()
	kept, err := again.List(ctx)
	if err != nil || len(kept) != 1 || kept[0].Error == "" || !kept[0].Favourite {
		t.Errorf("with the target gone: %+v, %v", kept, err)
	}
	if err := again.Logout(testIQN); err != nil {
		t.Error(err)
	}
	if err := again.Logout(testIQN); !errors.Is(err, ErrNotFound) {
		t.Errorf("logged out twice: %v", err)
	}
}

// TestCHAP keeps a secret, uses it afterwards without being told, and keeps
// nothing with a wrong one.
func TestCHAP(t *testing.T) {
	ctx := t.Context()
	_, portal := startTarget(t, func(o *tgt.Options) { o.User, o.Password = "node", "a-secret-of-12" })
	s := openSan(t, t.TempDir())
	if got, err := s.Login(ctx, portal, testIQN, iscsi.CHAP{User: "node", Password: "wrong-secret-1"}); err == nil {
		t.Fatalf("logged in with a wrong secret: %+v", got)
	}
	if kept, _ := s.List(ctx); len(kept) != 0 {
		t.Fatalf("kept: %+v", kept)
	}
	got, err := s.Login(ctx, portal, testIQN, iscsi.CHAP{User: "node", Password: "a-secret-of-12"})
	if err != nil || len(got) != 1 || len(got[0].LUNs) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if luns, err := s.LUNs(ctx); err != nil || len(luns) != 2 {
		t.Fatalf("%+v, %v", luns, err)
	}
	if s.CHAP(got[0].LUNs[0].URL).Password != "a-secret-of-12" {
		t.Error("the secret is not found by URL")
	}
	if again, err := s.Login(ctx, portal, testIQN, iscsi.CHAP{}); err != nil || len(again) != 1 {
		t.Errorf("login with the secret that is kept: %+v, %v", again, err)
	}
}

// TestHolds sees data on a LUN, and a probe leaves it alone, as it does a LUN
// with another's key.
func TestHolds(t *testing.T) {
	ctx := t.Context()
	_, portal := startTarget(t)
	s := openSan(t, t.TempDir())
	if _, err := s.Login(ctx, portal, "", iscsi.CHAP{}); err != nil {
		t.Fatal(err)
	}
	luns, err := s.LUNs(ctx)
	if err != nil {
		t.Fatal(err)
	}
	lun, err := s.Open(ctx, luns[0].URL, "user")
	if err != nil {
		t.Fatal(err)
	}
	defer lun.Close()
	block := make([]byte, 4096)
	copy(block, "XFSB")
	if _, err := retried(func() (int, error) { return 0, lun.WriteAt(ctx, block, 0) }); err != nil {
		t.Fatal(err)
	}
	if luns, err = s.LUNs(ctx); err != nil || luns[0].Holds != "an XFS file system" {
		t.Errorf("%+v, %v", luns, err)
	}
	key := ProbeKeys | 1
	if _, err := s.Probe(ctx, ProbeRequest{URL: luns[0].URL, Step: "register", Key: key, Session: "d"}); !errors.Is(err, ErrInUse) {
		t.Errorf("registered on data: %v", err)
	}
	user, err := s.Open(ctx, luns[1].URL, "user")
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if _, err := retried(func() (int, error) {
		return 0, user.Reserve(ctx, disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: 0xc0ffee})
	}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"register", "write", "clear", "preempt"} {
		r := ProbeRequest{URL: luns[1].URL, Step: step, Key: key, Session: "k"}
		if _, err := s.Probe(ctx, r); !errors.Is(err, ErrInUse) {
			t.Errorf("%s beside another's key: %v", step, err)
		}
	}
}

// TestInitiatorName prefers the administrator's, and refuses a bad one.
func TestInitiatorName(t *testing.T) {
	etc, state := t.TempDir(), t.TempDir()
	made, err := initiatorName(state, etc)
	if err != nil || !strings.HasPrefix(made, "iqn.2026-11.quorate:") {
		t.Fatal(made, err)
	}
	for text, want := range map[string]string{
		"# comment\n\nInitiatorName=iqn.1993-08.org.debian:x\n": "iqn.1993-08.org.debian:x",
		"iqn.2026-11.test:y": "iqn.2026-11.test:y", "nonsense": "", "": "",
	} {
		if err := os.WriteFile(filepath.Join(etc, nameFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got, err := initiatorName(state, etc); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

// TestDamagedFavourites is an error that names the file.
func TestDamagedFavourites(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"favourites: [{portal: x, target: y}]", "unknown: 1", "favourites: 7"} {
		if err := os.WriteFile(filepath.Join(dir, "san.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Options{StateDir: dir, Log: zap.NewNop()}); err == nil || !strings.Contains(err.Error(), "san.yaml") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
