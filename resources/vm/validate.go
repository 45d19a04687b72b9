package vm

import (
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
)

// Bounds of a machine.
const (
	maxName      = 64
	minMemoryMiB = 16
	maxMemoryMiB = 4 << 20 // 4 TiB
	maxCPUs      = 255
	maxDisks     = 16
	maxNetworks  = 8
)

var (
	nameShape  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]*$`)
	uuidShape  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	modelShape = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*(,[+-]?[A-Za-z0-9._-]+(=[A-Za-z0-9._-]+)?)*$`)
	typeShape  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)
)

// ErrBadName says that a name cannot be a machine's.
var ErrBadName = errors.New("vm: not a name for a machine")

// CheckName says what is wrong with the name of a machine, as an ErrBadName.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: it is empty", ErrBadName)
	case len(name) > maxName:
		return fmt.Errorf("%w: %q has %d characters; at most %d are allowed", ErrBadName, name[:maxName], len(name), maxName)
	case !nameShape.MatchString(name):
		return fmt.Errorf("%w: %q; use letters, digits, '.', '-' and '_', and begin with a letter, a digit or '_'", ErrBadName, name)
	}
	return nil
}

// Validate lists everything that is wrong with the settings.
func (s Settings) Validate() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf("vm: "+format, args...)) }
	if err := CheckName(s.Name); err != nil {
		faults = append(faults, err)
	}
	if !uuidShape.MatchString(s.UUID) {
		fault("uuid %q is not of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx in lower-case hexadecimal", s.UUID)
	}
	if !typeShape.MatchString(s.MachineType) {
		fault("machine_type %q is no machine type of QEMU, such as %s", s.MachineType, DefaultMachineType)
	}
	if s.MemoryMiB < minMemoryMiB || s.MemoryMiB > maxMemoryMiB {
		fault("memory_mib %d is not between %d and %d", s.MemoryMiB, minMemoryMiB, maxMemoryMiB)
	}
	if s.CPUs < 1 || s.CPUs > maxCPUs {
		fault("cpus %d is not between 1 and %d", s.CPUs, maxCPUs)
	}
	if !modelShape.MatchString(s.CPUModel) {
		fault("cpu_model %q is no processor model, such as %s", s.CPUModel, DefaultCPUModel)
	}
	if s.Kernel == "" && s.Initrd+s.Append != "" {
		fault("initrd and append need a kernel")
	}
	faults = append(faults, s.validateDisks()...)
	faults = append(faults, s.validateNetworks()...)
	return errors.Join(faults...)
}

func (s Settings) validateDisks() (faults []error) {
	if len(s.Disks) > maxDisks {
		faults = append(faults, fmt.Errorf("vm: %d disks; at most %d are possible", len(s.Disks), maxDisks))
	}
	if len(s.Disks) == 0 && s.ISO == "" && s.Kernel == "" {
		faults = append(faults, errors.New("vm: nothing to boot from: give a disk, an iso or a kernel"))
	}
	seen := make(map[string]bool)
	for i, d := range s.Disks {
		if d.Path == "" || seen[d.Path] {
			faults = append(faults, fmt.Errorf("vm: disks[%d].path %q is empty or used twice", i, d.Path))
		}
		seen[d.Path] = true
		if d.Format != "raw" && d.Format != "qcow2" {
			faults = append(faults, fmt.Errorf("vm: disks[%d].format %q is neither raw nor qcow2", i, d.Format))
		}
		if d.Size <= 0 || d.Size%512 != 0 {
			faults = append(faults, fmt.Errorf("vm: disks[%d].size %d is not a positive multiple of 512 bytes", i, d.Size))
		}
	}
	for _, p := range []string{s.ISO, s.Kernel, s.Initrd, s.Append} {
		if strings.ContainsRune(p, 0) {
			faults = append(faults, fmt.Errorf("vm: %q holds a zero byte", p))
		}
	}
	return faults
}

func (s Settings) validateNetworks() (faults []error) {
	if len(s.Networks) > maxNetworks {
		faults = append(faults, fmt.Errorf("vm: %d networks; at most %d are possible", len(s.Networks), maxNetworks))
	}
	seen := make(map[string]bool)
	for i, n := range s.Networks {
		if n.Name == "" {
			faults = append(faults, fmt.Errorf("vm: networks[%d].name is empty", i))
		}
		mac, err := net.ParseMAC(n.MAC)
		if err != nil || len(mac) != 6 || mac[0]&1 != 0 {
			faults = append(faults, fmt.Errorf("vm: networks[%d].mac %q is no address of a card", i, n.MAC))
			continue
		}
		if seen[mac.String()] {
			faults = append(faults, fmt.Errorf("vm: networks[%d].mac %s is used twice", i, n.MAC))
		}
		seen[mac.String()] = true
	}
	return faults
}
