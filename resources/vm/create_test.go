package vm

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func spec(name string) Spec {
	return Spec{Name: name, MemoryMiB: 64, CPUs: 1, DiskSize: 1 << 20}
}

// entries lists a folder, hidden files too.
func entries(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestCreateBlank(t *testing.T) {
	root := t.TempDir()
	s, err := Create(t.Context(), root, spec("sql01"))
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, "sql01")
	if d := cmp.Diff([]string{"disk0.raw", "sql01.yaml"}, entries(t, folder)); d != "" {
		t.Error(d)
	}
	back, err := Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(s, back); d != "" {
		t.Error(d)
	}
	if info, err := os.Stat(filepath.Join(folder, "disk0.raw")); err != nil || info.Size() != 1<<20 {
		t.Errorf("disk: %v, %v", info, err)
	}
	if _, err := Create(t.Context(), root, spec("sql01")); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	if d := cmp.Diff([]string{"sql01"}, entries(t, root)); d != "" {
		t.Error(d)
	}
}

func TestCreateFromImages(t *testing.T) {
	dir := t.TempDir()
	image := filepath.Join(dir, "image.raw")
	content := make([]byte, 3<<20+512)
	copy(content[2<<20:], "in the third block")
	content[len(content)-1] = 7
	if err := os.WriteFile(image, content, 0o644); err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, image string) {
		root := t.TempDir()
		sp := spec("a")
		sp.Image, sp.DiskSize = image, 0
		s, err := Create(t.Context(), root, sp)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "a", "disk0.raw"))
		if err != nil || !bytes.Equal(got, content) || s.Disks[0].Size != int64(len(content)) {
			t.Errorf("%d bytes, settings say %d, %v", len(got), s.Disks[0].Size, err)
		}
		sp.Name, sp.DiskSize = "b", 8<<20
		if s, err := Create(t.Context(), root, sp); err != nil || s.Disks[0].Size != 8<<20 {
			t.Errorf("larger: %v", err)
		}
		sp.Name, sp.DiskSize = "c", 1<<20
		if _, err := Create(t.Context(), root, sp); err == nil {
			t.Error("a disk smaller than its image was made")
		}
		if d := cmp.Diff([]string{"a", "b"}, entries(t, root)); d != "" {
			t.Error(d)
		}
	}
	t.Run("raw", func(t *testing.T) { check(t, image) })
	t.Run("qcow2", func(t *testing.T) {
		if _, err := exec.LookPath("qemu-img"); err != nil {
			t.Skip("qemu-img is not here; install Debian's qemu-utils")
		}
		packed := filepath.Join(dir, "image.qcow2")
		if out, err := exec.Command("qemu-img", "convert", "-f", "raw", "-O", "qcow2", image, packed).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		check(t, packed)
		backed := filepath.Join(dir, "backed.qcow2")
		if out, err := exec.Command("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", backed).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		sp := spec("x")
		sp.Image = backed
		if _, err := Create(t.Context(), t.TempDir(), sp); err == nil {
			t.Error("an image that shows the host's files was taken")
		}
	})
}

func TestCreateRefused(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		ctx  context.Context
		edit func(*Spec)
	}{
		"name with a slash": {t.Context(), func(s *Spec) { s.Name = "a/b" }},
		"hidden":            {t.Context(), func(s *Spec) { s.Name = ".a" }},
		"no size":           {t.Context(), func(s *Spec) { s.DiskSize = 0 }},
		"image not there":   {t.Context(), func(s *Spec) { s.Image = "/nowhere" }},
		"cancelled":         {cancelled, func(s *Spec) { s.Image = image }},
	} {
		root := t.TempDir()
		sp := spec("a")
		c.edit(&sp)
		if _, err := Create(c.ctx, root, sp); err == nil {
			t.Errorf("%s was taken", what)
		}
		if left := entries(t, root); len(left) != 0 {
			t.Errorf("%s left %q", what, left)
		}
	}
}
