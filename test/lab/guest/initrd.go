package guest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// modules are loaded in this order, each after those that it needs.
var modules = []string{
	"drivers/virtio/virtio_ring", "drivers/virtio/virtio", "drivers/virtio/virtio_pci_modern_dev",
	"drivers/virtio/virtio_pci_legacy_dev", "drivers/virtio/virtio_pci", "drivers/char/hw_random/virtio-rng",
	"drivers/block/virtio_blk", "net/core/failover", "drivers/net/net_failover", "drivers/net/virtio_net",
	"drivers/acpi/button", "drivers/input/evdev",
}

// entry is one file of the initrd.
type entry struct {
	name string
	mode uint32 // with the type, as in stat(2)
	data []byte
	dev  [2]uint32
}

// makeInitrd compiles the counter and packs it with busybox and the modules.
func makeInitrd(ctx context.Context, dir string, p parts) (string, error) {
	path := filepath.Join(dir, "initrd-"+digest(counterSource, initScript, []byte(p.modules))+".img")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return "", fmt.Errorf("guest: install Debian's busybox-static: %w", err)
	}
	counter, err := compile(ctx, dir)
	if err != nil {
		return "", err
	}
	entries := []entry{
		{name: "bin", mode: 0o040755},
		{name: "bin/busybox", mode: 0o100755, data: busybox},
		{name: "bin/counter", mode: 0o100755, data: counter},
		{name: "dev", mode: 0o040755},
		{name: "dev/console", mode: 0o020600, dev: [2]uint32{5, 1}},
		{name: "init", mode: 0o100755, data: initScript},
		{name: "lib", mode: 0o040755},
		{name: "proc", mode: 0o040755},
		{name: "sys", mode: 0o040755},
	}
	for i, m := range modules {
		ko, err := os.ReadFile(filepath.Join(p.modules, "kernel", m+".ko"))
		if errors.Is(err, fs.ErrNotExist) {
			continue // built in
		}
		if err != nil {
			return "", fmt.Errorf("guest: %w", err)
		}
		entries = append(entries, entry{name: fmt.Sprintf("lib/%02d-%s.ko", i, filepath.Base(m)), mode: 0o100644, data: ko})
	}
	var out bytes.Buffer
	zip := gzip.NewWriter(&out)
	if _, err := zip.Write(cpio(entries)); err != nil {
		return "", fmt.Errorf("guest: %w", err)
	}
	if err := zip.Close(); err != nil {
		return "", fmt.Errorf("guest: %w", err)
	}
	if err := os.WriteFile(path+".tmp", out.Bytes(), 0o644); err != nil {
		return "", fmt.Errorf("guest: %w", err)
	}
	return path, commit(path+".tmp", path)
}

// compile builds the counter from its embedded source.
func compile(ctx context.Context, dir string) ([]byte, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return nil, fmt.Errorf("guest: the guest's counter needs the go command: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, "counter-")
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := os.WriteFile(filepath.Join(tmp, "main.go"), counterSource, 0o644); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	env := []string{"CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GO111MODULE=off"}
	if _, err := run(ctx, tmp, env, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", "counter", "main.go"); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(tmp, "counter"))
}

// cpio packs entries in the format that the kernel unpacks ("newc", see
// Documentation/driver-api/early-userspace/buffer-format.rst).
func cpio(entries []entry) []byte {
	var b bytes.Buffer
	for i, e := range append(entries, entry{name: "TRAILER!!!"}) {
		fmt.Fprintf(&b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, e.dev[0], e.dev[1], len(e.name)+1, 0)
		b.WriteString(e.name)
		b.WriteByte(0)
		pad(&b)
		b.Write(e.data)
		pad(&b)
	}
	return b.Bytes()
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
