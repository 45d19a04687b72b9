package guest

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Packages are the Debian packages that must be installed for Build.
var Packages = []string{"apt", "dpkg", "busybox-static"}

// Downloaded are the Debian packages that Build downloads and unpacks without
// installing them, with the kernel that linux-image-cloud-amd64 names.
var Downloaded = []string{"syslinux", "syslinux-common", "mtools"}

//go:embed counter/main.go
var counterSource []byte

//go:embed init.sh
var initScript []byte

// Options of an image.
type Options struct {
	// Dir keeps images and what they were made of. Empty means
	// $XDG_CACHE_HOME/quorate/guest.
	Dir string
	// DirtyMiB of HotMiB of memory are changed each second; both 0 for a
	// guest that rests.
	DirtyMiB, HotMiB int
	// FillMiB of memory are filled at the start with lines of text that differ,
	// which compress well, before it begins to count.
	FillMiB int
	// Pulse has the guest write an empty line to its console each millisecond.
	Pulse bool
	// Address is what eth0 gets, as in 192.168.100.50/24. Empty asks by DHCP
	// if there is a card.
	Address string
}

// Validate lists everything that is wrong with the options.
func (o Options) Validate() error {
	var faults []error
	if o.DirtyMiB < 0 || o.HotMiB < 0 || o.FillMiB < 0 {
		faults = append(faults, fmt.Errorf("guest: DirtyMiB %d, HotMiB %d and FillMiB %d must not be negative", o.DirtyMiB, o.HotMiB, o.FillMiB))
	}
	if o.DirtyMiB > 0 && o.HotMiB == 0 {
		faults = append(faults, errors.New("guest: DirtyMiB without HotMiB changes nothing; set both"))
	}
	return errors.Join(faults...)
}

// cmdline is the kernel's command line.
func (o Options) cmdline() string {
	line := "console=ttyS0 quiet loglevel=3 panic=5 mitigations=off random.trust_cpu=on tsc=unstable init_on_free=1"
	if o.HotMiB > 0 {
		line += fmt.Sprintf(" quorate.dirty=%d quorate.hot=%d", o.DirtyMiB, o.HotMiB)
	}
	if o.FillMiB > 0 {
		line += fmt.Sprintf(" quorate.fill=%d", o.FillMiB)
	}
	if o.Pulse {
		line += " quorate.pulse=1"
	}
	if o.Address != "" {
		line += " quorate.address=" + o.Address
	}
	return line
}

// Image is what Build made. It must be copied before it is run.
type Image struct {
	// Path is the raw disk image, 80 MiB and sparse.
	Path string
	// Kernel and Initrd boot the same guest without its boot sector, with
	// Append as the command line.
	Kernel, Initrd, Append string
}

// Build makes an image, or finds the one that was made before. It needs network
// access the first time. An error names the package that is missing.
func Build(ctx context.Context, o Options) (Image, error) {
	if err := o.Validate(); err != nil {
		return Image{}, err
	}
	if o.Dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return Image{}, fmt.Errorf("guest: no place for the image; set Options.Dir: %w", err)
		}
		o.Dir = filepath.Join(cache, "quorate", "guest")
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return Image{}, fmt.Errorf("guest: %w", err)
	}
	unlock, err := lock(filepath.Join(o.Dir, "lock"))
	if err != nil {
		return Image{}, err
	}
	defer unlock()

	parts, err := unpack(ctx, o.Dir)
	if err != nil {
		return Image{}, err
	}
	initrd, err := makeInitrd(ctx, o.Dir, parts)
	if err != nil {
		return Image{}, err
	}
	img := Image{Kernel: parts.kernel, Initrd: initrd, Append: o.cmdline()}
	img.Path = filepath.Join(o.Dir, "guest-"+digest([]byte(initrd), []byte(img.Append))+".raw")
	if _, err := os.Stat(img.Path); err == nil {
		return img, nil
	}
	return img, makeDisk(ctx, img, parts)
}

// digest names what is made by what goes into it.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:", len(p)) // a hash never fails
		_, _ = h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// run executes a tool and puts its output into the error.
func run(ctx context.Context, dir string, env []string, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return out, fmt.Errorf("guest: %s %q: %w: %s", name, args, err, out)
	}
	return out, nil
}

// commit gives a finished file its name, durably enough for a cache.
func commit(tmp, path string) error {
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	return nil
}
