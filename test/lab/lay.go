package lab

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// lay makes the folders and files of a new lab.
func (l *Lab) lay() error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	enroll := base64.StdEncoding.EncodeToString(key) + "\n"
	for _, n := range l.Nodes() {
		if err := l.layNode(n, enroll); err != nil {
			return err
		}
	}
	for _, b := range []string{sanBox, switchBox, Admin} {
		if err := os.MkdirAll(filepath.Join(l.o.Dir, b), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// clusterdConfig has machines emulated, so that a lab is the same wherever it is raised:
// KVM within a virtual machine is there on some hosts, broken on others.
const clusterdConfig = "accel: tcg\n"

func (l *Lab) layNode(node, enroll string) error {
	dir := l.NodeDir(node)
	for _, d := range []string{"etc", "var", "storage"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	id := make([]byte, 16)
	_, _ = rand.Read(id)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "etc", "enroll.key"), []byte(enroll), 0o600),
		os.WriteFile(filepath.Join(dir, "etc", "clusterd.yaml"), []byte(clusterdConfig), 0o644),
		os.WriteFile(filepath.Join(dir, "hosts"), []byte(l.hosts()), 0o644),
		os.WriteFile(filepath.Join(dir, "hostname"), []byte(node+"\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "machine-id"), []byte(hex.EncodeToString(id)+"\n"), 0o444),
	)
}

// hosts is every node's /etc/hosts: the names are the nodes' on the clients'
// network.
func (l *Lab) hosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost\n" + SANAddress + " san\n")
	for i, n := range l.Nodes() {
		fmt.Fprintf(&b, "%s %s\n", address(Clients, i+1), n)
	}
	return b.String()
}

// address is the i-th node's on a network, i from 1.
func address(network string, i int) string {
	prefix := map[string]string{Clients: "192.168.100", Storage: "192.168.0", Migration: "192.168.101"}[network]
	return fmt.Sprintf("%s.%d", prefix, 10+i)
}
