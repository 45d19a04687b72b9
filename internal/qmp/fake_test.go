package qmp

import (
	"bufio"
	"encoding/json"
	"net"
	"path/filepath"
	"testing"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}`

// asked is one command as the fake server got it.
type asked struct {
	Execute string          `json:"execute"`
	ID      json.Number     `json:"id"`
	Args    json.RawMessage `json:"arguments"`
}

// fakeQEMU is a monitor that answers as it is told to.
type fakeQEMU struct {
	path string
	conn chan net.Conn
}

// serve starts a server that greets and then lets answer write what it likes
// for each command. An answer of "" is silence.
func serve(t *testing.T, hello string, answer func(asked) string) *fakeQEMU {
	t.Helper()
	f := &fakeQEMU{path: filepath.Join(t.TempDir(), "qmp.sock"), conn: make(chan net.Conn, 1)}
	l, err := net.Listen("unix", f.path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		f.conn <- c
		if hello != "" {
			if _, err := c.Write([]byte(hello + "\r\n")); err != nil {
				return
			}
		}
		for in := bufio.NewScanner(c); in.Scan(); {
			var a asked
			if err := json.Unmarshal(in.Bytes(), &a); err != nil {
				t.Errorf("client sent %q: %v", in.Bytes(), err)
				return
			}
			out := `{"return": {}, "id": ` + a.ID.String() + `}`
			if a.Execute != "qmp_capabilities" {
				out = answer(a)
			}
			if out == "" {
				continue
			}
			if _, err := c.Write([]byte(out + "\r\n")); err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return f
}
