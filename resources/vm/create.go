package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrExists says that there is already a machine, or something else, of that
// name on the volume.
var ErrExists = errors.New("vm: the name is taken")

// Spec is what Create makes a machine of.
type Spec struct {
	// Name of the machine and its folder.
	Name string
	// MemoryMiB and CPUs are the machine's memory, in MiB, and processors.
	MemoryMiB int64
	CPUs      int
	// CPUModel and MachineType may be empty for the defaults.
	CPUModel, MachineType string
	// DiskSize is the disk in bytes, a multiple of 512. With Image it may be
	// 0, for the image's own size, and not less than that.
	DiskSize int64
	// Image is a raw or qcow2 file to copy the disk from.
	Image string
	// ISO is a medium to install from; it is not copied.
	ISO string
	// Networks names what the machine's cards are plugged into.
	Networks []string
}

// settings makes settings of a spec, with the disk still to be sized.
func (s Spec) settings() Settings {
	out := Settings{
		Name: s.Name, UUID: newUUID(), MachineType: s.MachineType, MemoryMiB: s.MemoryMiB, CPUs: s.CPUs,
		CPUModel: s.CPUModel, ISO: s.ISO,
		Disks: []Disk{{Path: "disk0.raw", Format: "raw", Size: s.DiskSize}},
	}
	if out.MachineType == "" {
		out.MachineType = DefaultMachineType
	}
	if out.CPUModel == "" {
		out.CPUModel = DefaultCPUModel
	}
	for _, n := range s.Networks {
		out.Networks = append(out.Networks, Network{Name: n, MAC: newMAC()})
	}
	return out
}

// Create makes the folder <volumeRoot>/<Name> with the settings file and a disk,
// blank or copied from an image. It appears whole or not at all: it is written
// as .<Name>.new-*, which a crash may leave behind and which means nothing.
func Create(ctx context.Context, volumeRoot string, spec Spec) (Settings, error) {
	s := spec.settings()
	if spec.Image != "" && spec.DiskSize == 0 {
		s.Disks[0].Size = 512 // the image's size is not known yet
	}
	if err := s.Validate(); err != nil {
		return Settings{}, err
	}
	folder := filepath.Join(volumeRoot, s.Name)
	if _, err := os.Lstat(folder); err == nil {
		return Settings{}, fmt.Errorf("%w: %s; choose another name", ErrExists, folder)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return Settings{}, fmt.Errorf("vm: looking for %s: %w", folder, err)
	}
	tmp, err := os.MkdirTemp(volumeRoot, "."+s.Name+".new-")
	if err != nil {
		return Settings{}, fmt.Errorf("vm: the folder for %s: %w", s.Name, err)
	}
	if err := fill(ctx, tmp, spec, &s); err != nil {
		return Settings{}, errors.Join(err, os.RemoveAll(tmp))
	}
	if err := publish(tmp, folder); err != nil {
		return Settings{}, errors.Join(err, os.RemoveAll(tmp))
	}
	return s, syncPath(volumeRoot)
}

// fill writes disk and settings into a folder, durably.
func fill(ctx context.Context, dir string, spec Spec, s *Settings) error {
	size, err := makeDisk(ctx, filepath.Join(dir, s.Disks[0].Path), spec)
	if err != nil {
		return err
	}
	s.Disks[0].Size = size
	text, err := s.Encode()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, s.Name+".yaml")
	if err := os.WriteFile(path, text, 0o640); err != nil {
		return fmt.Errorf("vm: settings of %s: %w", s.Name, err)
	}
	if err := os.Chmod(dir, 0o750); err != nil {
		return fmt.Errorf("vm: folder of %s: %w", s.Name, err)
	}
	return errors.Join(syncPath(path), syncPath(dir))
}

// publish gives a finished folder its name, unless something has it by now.
func publish(tmp, folder string) error {
	err := unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, folder, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A file system without the flag: look, then rename.
		if _, err := os.Lstat(folder); err == nil {
			return fmt.Errorf("%w: %s", ErrExists, folder)
		}
		err = unix.Rename(tmp, folder)
	}
	switch {
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY):
		return fmt.Errorf("%w: %s", ErrExists, folder)
	case err != nil:
		return fmt.Errorf("vm: naming %s: %w", folder, err)
	}
	return nil
}

// syncPath makes a file, or the entries of a folder, durable.
func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("vm: making %s durable: %w", path, err)
	}
	return nil
}
