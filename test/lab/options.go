package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// SAN kinds.
const (
	SANTgt = "tgt" // Debian's tgt: quick
	SANLIO = "lio" // Linux's own target in a QEMU guest: slower, and strict
)

// Networks of a lab, in the order in which nodes are connected to them.
const (
	Clients   = "clients"
	Storage   = "storage"
	Migration = "migration"
)

// Networks lists all of them.
func Networks() []string { return []string{Clients, Storage, Migration} }

// Portal is where the SAN is, seen from the nodes.
const Portal = SANAddress + ":3260"

// SANAddress is the SAN's, on the storage network.
const SANAddress = "192.168.0.1"

// TargetIQN is the SAN's target.
const TargetIQN = "iqn.2026-11.lab.quorate:san"

// Options tell what to raise.
type Options struct {
	// Name tells labs apart; the folder follows from it unless Dir is given.
	Name string `json:"name"`
	// Dir is the lab's folder, up to 60 bytes.
	Dir string `json:"dir"`
	// Nodes is how many, from 1 to 32.
	Nodes int `json:"nodes"`
	// SAN is SANTgt or SANLIO.
	SAN string `json:"san"`
	// Bin is the folder of clusterd and noded; that of the running program
	// unless given. It is put into the nodes' PATH.
	Bin string `json:"bin"`
	// NoDaemons raises nodes without clusterd and noded.
	NoDaemons bool `json:"no_daemons"`
	// Cache is where downloads are kept (for SANLIO).
	Cache string `json:"cache"`
}

// DefaultDir is the folder of the lab of that name.
func DefaultDir(name string) string {
	if name == "" || name == "default" {
		return "/var/tmp/quorate-lab"
	}
	return "/var/tmp/quorate-lab-" + name
}

// EnsureDefaults fills in what was left out.
func (o *Options) EnsureDefaults() {
	if o.Dir == "" {
		o.Dir = DefaultDir(o.Name)
	}
	if abs, err := filepath.Abs(o.Dir); err == nil {
		o.Dir = abs
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.SAN == "" {
		o.SAN = SANTgt
	}
	if o.Bin == "" {
		if exe, err := os.Executable(); err == nil {
			o.Bin = filepath.Dir(exe)
		}
	}
	if abs, err := filepath.Abs(o.Bin); err == nil {
		o.Bin = abs
	}
	if o.Cache == "" {
		if c, err := os.UserCacheDir(); err == nil {
			o.Cache = filepath.Join(c, "quorate")
		} else {
			o.Cache = "/var/cache/quorate"
		}
	}
}

const maxDir = 60 // bytes, so that the boxes' sockets have room

// Validate lists all faults.
func (o *Options) Validate() error {
	var faults []error
	fault := func(format string, a ...any) { faults = append(faults, fmt.Errorf(format, a...)) }
	if o.Nodes < 1 || o.Nodes > 32 {
		fault("%d nodes: from 1 to 32 are possible", o.Nodes)
	}
	if o.SAN != SANTgt && o.SAN != SANLIO {
		fault("SAN %q is neither %s nor %s", o.SAN, SANTgt, SANLIO)
	}
	if len(o.Dir) > maxDir {
		fault("the folder %s has more than %d bytes, and sockets have to lie in it", o.Dir, maxDir)
	}
	if strings.ContainsAny(o.Name, "/ \x00") {
		fault("the name %q contains a slash, a space or a zero byte", o.Name)
	}
	return errors.Join(faults...)
}

// daemons are what runs on every node, in the order in which they are started.
var daemons = []string{"noded", "clusterd"}

// Missing tells all that a lab of these options needs and that is not here.
func Missing(o Options) error {
	var faults []error
	if os.Geteuid() != 0 {
		faults = append(faults, errors.New("a lab makes namespaces, mounts and network interfaces: run it as root"))
	}
	need := map[string]string{"tgtd": "tgt", "tgtadm": "tgt"}
	if o.SAN == SANLIO {
		need = map[string]string{"qemu-system-x86_64": "qemu-system-x86", "cpio": "cpio", "busybox": "busybox-static", "apt-get": "apt", "dpkg-deb": "dpkg"}
	}
	for program, pkg := range need {
		if !installed(program) {
			faults = append(faults, fmt.Errorf("%s is not installed: apt-get install %s", program, pkg))
		}
	}
	if _, err := os.Stat("/dev/fuse"); err != nil && !o.NoDaemons {
		faults = append(faults, errors.New("there is no /dev/fuse: load the kernel's module fuse"))
	}
	for _, d := range daemons {
		if o.NoDaemons {
			break
		}
		if _, err := os.Stat(filepath.Join(o.Bin, d)); err != nil {
			faults = append(faults, fmt.Errorf("%s is not in %s: build it (make build), name its folder with --bin, or raise the lab with --no-daemons", d, o.Bin))
		}
	}
	return errors.Join(faults...)
}

func installed(program string) bool {
	if _, err := exec.LookPath(program); err == nil {
		return true
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if _, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return true
		}
	}
	return false
}
