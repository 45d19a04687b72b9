package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

// config writes a configuration file and returns its name.
func config(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "noded.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestOptions: a flag goes before the file, and the file before what is built in.
func TestOptions(t *testing.T) {
	name := config(t, "state: /s\nlisten: 127.0.0.1:7\ninitiator: iqn.2026-11.io.quorate:other\nrealtime: true\nlog-level: warn\n")
	o, log, err := options([]string{"--config", name, "--listen", "[::1]:7401", "--storage", "/v"})
	if err != nil {
		t.Fatal(err)
	}
	got := []string{o.StateDir, o.RunDir, o.StorageDir, o.Listen, o.InitiatorName}
	want := []string{"/s", "/run/quorate", "/v", "[::1]:7401", "iqn.2026-11.io.quorate:other"}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%q, want %q", got[i], want[i])
		}
	}
	if !o.realtime || log.Core().Enabled(zapcore.InfoLevel) || !log.Core().Enabled(zapcore.WarnLevel) {
		t.Error("realtime or log-level of the file does not count")
	}
	if _, _, err := options([]string{"--config", config(t, "")}); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

// TestBadOptions: each is refused, and the error names it.
func TestBadOptions(t *testing.T) {
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []struct{ what, says string }{
		{"--config=" + none, none},
		{"--config=" + config(t, "states: /s\n"), "states"},
		{"--config=" + config(t, "realtime: perhaps\n"), "perhaps"},
		{"--config=" + config(t, "listen: [1, 2]\n"), "line 1"},
		{"--config=" + config(t, "state: relative\n"), "relative"},
		{"--log-level=loud", "loud"},
		{"--listen=7401", "7401"},
		{"--listen=:74010", "74010"},
		{"--listen=:nosuchservice", "nosuchservice"},
		{"--run=run", `"run"`},
		{"start", "start"},
	} {
		if _, _, err := options([]string{c.what}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", c.what, err)
		}
	}
	if _, _, err := options([]string{"--help"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("--help: %v", err)
	}
}
