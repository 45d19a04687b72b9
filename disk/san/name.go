package san

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"quorate/disk/iscsi"
)

const nameFile = "initiatorname"

// initiatorName is the node's name on the SAN: the administrator's, else the one
// made on first use. It must never change by itself, since targets grant access
// and count registrations by it.
func initiatorName(stateDir, etcDir string) (string, error) {
	paths := []string{filepath.Join(stateDir, nameFile)}
	if etcDir != "" {
		paths = append([]string{filepath.Join(etcDir, nameFile)}, paths...)
	}
	for _, path := range paths {
		name, err := readName(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		return name, err
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("make an initiator name: %w", err)
	}
	random := make([]byte, 4)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("make an initiator name: %w", err)
	}
	name := "iqn.2026-11.quorate:" + orderly(host) + "-" + hex.EncodeToString(random)
	return name, writeFile(paths[len(paths)-1], []byte(name+"\n"), 0o644)
}

// readName reads the first line that is no comment; open-iscsi's form
// "InitiatorName=" is taken as well.
func readName(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read the initiator name: %w", err)
	}
	defer f.Close()
	name := ""
	sc := bufio.NewScanner(f)
	for name == "" && sc.Scan() {
		if line := strings.TrimSpace(sc.Text()); !strings.HasPrefix(line, "#") {
			name = strings.TrimSpace(strings.TrimPrefix(line, "InitiatorName="))
		}
	}
	o := iscsi.Options{Portal: "check:1", InitiatorName: name}
	err = errors.Join(sc.Err(), o.EnsureDefaults())
	if err = errors.Join(err, o.Validate()); err != nil {
		return "", fmt.Errorf("read the initiator name from %s: %w", path, err)
	}
	return name, nil
}
