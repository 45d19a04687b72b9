package vm

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"
)

// Defaults of a new machine.
const (
	// DefaultMachineType is pinned in the settings, so that a machine keeps
	// its hardware when QEMU is upgraded.
	DefaultMachineType = "pc-q35-7.2"
	// DefaultCPUModel runs, and can be moved between, all processors since
	// 2009, with or without KVM.
	DefaultCPUModel = "x86-64-v2"
)

// Settings are what a machine is. Paths that are not absolute are relative to
// the machine's folder.
type Settings struct {
	// Name is the machine's name in the cluster and its folder's.
	Name string `yaml:"name"`
	// UUID is what the guest sees as its serial number (RFC 9562).
	UUID string `yaml:"uuid"`
	// MachineType is QEMU's versioned machine type.
	MachineType string `yaml:"machine_type"`
	// MemoryMiB is the memory in MiB.
	MemoryMiB int64 `yaml:"memory_mib"`
	// CPUs is the number of virtual processors.
	CPUs int `yaml:"cpus"`
	// CPUModel is cluster, host, x86-64-v2, x86-64-v3, or a model of QEMU's.
	CPUModel string `yaml:"cpu_model"`
	// CPUFrom is cluster in the settings of a running machine whose model was the
	// cluster's when it was started. It is nothing to write into a file.
	CPUFrom string `yaml:"cpu_from,omitempty"`
	// Kernel, Initrd and Append boot a kernel without a boot loader.
	Kernel string `yaml:"kernel,omitempty"`
	Initrd string `yaml:"initrd,omitempty"`
	Append string `yaml:"append,omitempty"`
	// Disks are what the guest sees as vda, vdb and so on. The first boots.
	Disks []Disk `yaml:"disks"`
	// ISO is a medium in the CD drive; it boots where the first disk does not.
	ISO string `yaml:"iso,omitempty"`
	// Networks are the machine's cards.
	Networks []Network `yaml:"networks,omitempty"`
}

// Disk is a disk image.
type Disk struct {
	// Path is the image's file.
	Path string `yaml:"path"`
	// Format is raw or qcow2.
	Format string `yaml:"format"`
	// Size is what the guest sees, in bytes.
	Size int64 `yaml:"size"`
}

// Network is a card and what it is plugged into.
type Network struct {
	// Name is the cluster's name of the network; each node has a bridge for it.
	Name string `yaml:"name"`
	// MAC is the card's address.
	MAC string `yaml:"mac"`
}

// SettingsPath is where the settings of the machine in folder lie.
func SettingsPath(folder string) string {
	return filepath.Join(folder, filepath.Base(folder)+".yaml")
}

// Load reads and validates the settings of the machine in folder.
func Load(folder string) (Settings, error) {
	path := SettingsPath(folder)
	text, err := os.ReadFile(path)
	if err != nil {
		return Settings{}, fmt.Errorf("vm: no settings of a machine in %s: %w", folder, err)
	}
	s, err := Parse(text)
	if err != nil {
		return Settings{}, fmt.Errorf("vm: %s: %w", path, err)
	}
	return s, nil
}

// Parse reads settings from YAML, strictly: an unknown field is a fault.
func Parse(text []byte) (Settings, error) {
	var s Settings
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return Settings{}, fmt.Errorf("vm: settings are not understood: %w", err)
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return Settings{}, errors.New("vm: settings hold more than one document")
	}
	return s, s.Validate()
}

// Encode writes settings as YAML.
func (s Settings) Encode() ([]byte, error) {
	text, err := yaml.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("vm: settings of %s: %w", s.Name, err)
	}
	return text, nil
}

// resolve makes a path of the settings absolute.
func resolve(folder, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

// newUUID makes a random UUID (RFC 9562, version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// newMAC makes a random address in QEMU's range.
func newMAC() string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2])
}
