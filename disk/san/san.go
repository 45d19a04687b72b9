package san

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
	"quorate/disk/iscsi"
	"quorate/disk/open"
)

// ErrNotFound says that this node sees no such target or LUN.
var ErrNotFound = errors.New("not found on the SAN")

// Options tell what a San needs. StateDir and Log must be given.
type Options struct {
	// StateDir keeps the favourites (san.yaml) and the initiator name where
	// EtcDir has none.
	StateDir string
	// EtcDir may hold a file initiatorname: the node's name on the SAN, as
	// its administrator wants it.
	EtcDir string
	// Holds tells what lies on a LUN, or "". Nil is disk.ReadSignature.
	Holds func(context.Context, disk.Device) (string, error)
	Log   *zap.Logger
}

// Validate lists all faults.
func (o Options) Validate() error {
	var faults []error
	if !filepath.IsAbs(o.StateDir) {
		faults = append(faults, fmt.Errorf("StateDir: %q is not an absolute path", o.StateDir))
	}
	if o.EtcDir != "" && !filepath.IsAbs(o.EtcDir) {
		faults = append(faults, fmt.Errorf("EtcDir: %q is not an absolute path", o.EtcDir))
	}
	if o.Log == nil {
		faults = append(faults, errors.New("Log: must be given"))
	}
	return errors.Join(faults...)
}

// Target is an iSCSI target with its LUNs.
type Target struct {
	IQN string
	// Portals are host:port.
	Portals []string
	LUNs    []LUN
	// Error is why its LUNs, or some of them, could not be listed.
	Error string
	// Favourite tells that this node keeps it.
	Favourite bool
}

// LUN is a disk of a target.
type LUN struct {
	disk.Info
	// Holds is what lies on it, as a sentence takes it, or empty.
	Holds string
}

// San is this node's view of the SAN. Its methods may be called at once.
type San struct {
	opt  Options
	name string
	idle time.Duration // ProbeIdle, or less in tests

	mu struct {
		sync.Mutex
		favourites []favourite
		probes     map[string]*probe
		closed     bool
	}
}

// Open reads the favourites and the initiator name, and makes the latter on
// first use. It reaches for no target.
func Open(o Options) (*San, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("options of the SAN: %w", err)
	}
	if o.Holds == nil {
		o.Holds = disk.ReadSignature
	}
	s := &San{opt: o, idle: ProbeIdle}
	s.mu.probes = map[string]*probe{}
	var err error
	if s.name, err = initiatorName(o.StateDir, o.EtcDir); err != nil {
		return nil, err
	}
	if s.mu.favourites, err = readFavourites(s.favouritesPath()); err != nil {
		return nil, err
	}
	return s, nil
}

// Close ends the probes, taking back the keys that they registered.
func (s *San) Close() {
	s.mu.Lock()
	probes := s.mu.probes
	s.mu.probes, s.mu.closed = nil, true
	s.mu.Unlock()
	for _, p := range probes {
		p.end()
	}
}

// InitiatorName is this node's name on the SAN.
func (s *San) InitiatorName() string { return s.name }

// Discover asks a portal for its targets and lists each one's LUNs. A target
// whose LUNs cannot be listed says why in its Error.
func (s *San) Discover(ctx context.Context, portal string, chap iscsi.CHAP) ([]Target, error) {
	found, err := iscsi.Discover(ctx, portal, iscsi.Options{InitiatorName: s.name, Purpose: "scan", CHAP: chap, Log: s.opt.Log})
	if err != nil {
		return nil, fmt.Errorf("%w: see that the address is the SAN's and that this node's storage network reaches it", err)
	}
	favourites := s.favourites()
	scans := make([]scan, len(found))
	for i, f := range found {
		scans[i] = scan{favourite{Portal: choosePortal(portal, f.Portals), Target: f.IQN, CHAP: chapFile(chap)}, f.Portals, false}
		for _, k := range favourites {
			scans[i].kept = scans[i].kept || k.Target == f.IQN
			if k.Target == f.IQN && chap == (iscsi.CHAP{}) {
				scans[i].CHAP = k.CHAP
			}
		}
	}
	return s.scanAll(ctx, scans, true), nil
}

// Login keeps a target of the portal, or all of them where target is empty, as
// favourites: after a restart they are there again. Each is logged in to and
// listed first; one that fails is not kept, and Login fails if none could be.
func (s *San) Login(ctx context.Context, portal, target string, chap iscsi.CHAP) ([]Target, error) {
	all, err := s.Discover(ctx, portal, chap)
	if err != nil {
		return nil, err
	}
	var names []string
	var chosen []Target
	for _, t := range all {
		names = append(names, t.IQN)
		if target == "" || t.IQN == target {
			chosen = append(chosen, t)
		}
	}
	if len(chosen) == 0 {
		if target == "" {
			return nil, fmt.Errorf("log in to %s: it shows no targets to %s; allow that initiator name on the SAN: %w", portal, s.name, ErrNotFound)
		}
		return nil, fmt.Errorf("log in to target %s of %s: it has %s: %w", target, portal, orNone(names), ErrNotFound)
	}
	var keep []favourite
	var faults []error
	for i, t := range chosen {
		if t.Error != "" && len(t.LUNs) == 0 {
			faults = append(faults, fmt.Errorf("log in to target %s of %s: %s", t.IQN, portal, t.Error))
			continue
		}
		chosen[i].Favourite = true
		keep = append(keep, favourite{Portal: choosePortal(portal, t.Portals), Target: t.IQN, CHAP: s.secretFor(t.IQN, chap)})
	}
	if len(keep) == 0 {
		return nil, errors.Join(faults...)
	}
	return chosen, s.keep(keep)
}

// Logout forgets a target. What uses it goes on until it closes it.
func (s *San) Logout(target string) error { return s.forget(target) }

// List lists the favourites with their LUNs as they are seen now.
func (s *San) List(ctx context.Context) ([]Target, error) {
	return s.list(ctx, true), nil
}

// LUNs lists the LUNs of all favourites, each once by its identity, in the order
// of their URLs. A target that cannot be listed is an error beside the others.
func (s *San) LUNs(ctx context.Context) ([]LUN, error) {
	return unique(s.list(ctx, true))
}

// Find returns the URL by which this node reaches the LUN of that identity,
// serial number or URL.
func (s *San) Find(ctx context.Context, name string) (string, error) {
	if strings.HasPrefix(name, "iscsi://") || strings.HasPrefix(name, "/dev/") || strings.HasPrefix(name, "file://") {
		return name, nil
	}
	luns, faults := unique(s.list(ctx, false))
	var urls, known []string
	for _, l := range luns {
		if name != "" && (l.ID == name || l.Serial == name) {
			urls = append(urls, l.URL)
		}
		known = append(known, l.ID)
	}
	switch {
	case len(urls) == 1:
		return urls[0], nil
	case len(urls) > 1:
		return "", fmt.Errorf("find LUN %q: %s all have that serial number; give the identity or the URL", name, strings.Join(urls, ", "))
	case faults != nil:
		return "", fmt.Errorf("find LUN %q: %w among %s; not all targets answered: %w", name, ErrNotFound, orNone(known), faults)
	}
	return "", fmt.Errorf("find LUN %q: %w; this node sees %s; `clusterctl san login` adds a target", name, ErrNotFound, orNone(known))
}

// Open opens a LUN with this node's name and the CHAP secret of its target.
// Purpose tells apart what the node uses the same LUN for.
func (s *San) Open(ctx context.Context, url, purpose string) (disk.LUN, error) {
	return open.Open(ctx, url, open.Options{InitiatorName: s.name, Purpose: purpose, CHAP: s.CHAP(url), Log: s.opt.Log})
}

// CHAP is the secret kept for the target that a URL names, or the zero value.
func (s *San) CHAP(url string) iscsi.CHAP {
	_, target, _, err := iscsi.ParseURL(url)
	if err != nil {
		return iscsi.CHAP{}
	}
	return s.secretFor(target, iscsi.CHAP{}).chap()
}

// secretFor is the secret to use for a target: the one given, or the one kept.
func (s *San) secretFor(target string, given iscsi.CHAP) secret {
	if given != (iscsi.CHAP{}) {
		return chapFile(given)
	}
	for _, f := range s.favourites() {
		if f.Target == target {
			return f.CHAP
		}
	}
	return secret{}
}

// choosePortal is where to log in: the portal that was asked, if the target is
// there, else the first that the target names.
func choosePortal(asked string, portals []string) string {
	o := iscsi.Options{Portal: asked}
	_ = o.EnsureDefaults() // only a URL can be at fault
	if len(portals) == 0 || slices.Contains(portals, o.Portal) {
		return o.Portal
	}
	return portals[0]
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
