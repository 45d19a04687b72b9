package san

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"quorate/disk/iscsi"
)

// maxFavourites bounds the targets that a node keeps.
const maxFavourites = 256

// favourite is a target that the node keeps, as san.yaml has it.
type favourite struct {
	Portal string `yaml:"portal"`
	Target string `yaml:"target"`
	CHAP   secret `yaml:"chap,omitempty"`
}

type secret struct {
	User         string `yaml:"user,omitempty"`
	Password     string `yaml:"password,omitempty"`
	PeerUser     string `yaml:"peer_user,omitempty"`
	PeerPassword string `yaml:"peer_password,omitempty"`
}

func (c secret) chap() iscsi.CHAP  { return iscsi.CHAP(c) }
func chapFile(c iscsi.CHAP) secret { return secret(c) }

type file struct {
	Favourites []favourite `yaml:"favourites"`
}

func (s *San) favouritesPath() string { return filepath.Join(s.opt.StateDir, "san.yaml") }

func (s *San) favourites() []favourite {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mu.favourites)
}

// keep adds favourites, or replaces those of the same portal and target.
func (s *San) keep(add []favourite) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.Clone(s.mu.favourites)
	for _, f := range add {
		same := func(g favourite) bool { return g.Portal == f.Portal && g.Target == f.Target }
		if i := slices.IndexFunc(next, same); i >= 0 {
			next[i] = f
		} else {
			next = append(next, f)
		}
	}
	if len(next) > maxFavourites {
		return fmt.Errorf("keep %d targets: a node keeps at most %d; log out of some", len(next), maxFavourites)
	}
	return s.storeLocked(next)
}

func (s *San) forget(target string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.DeleteFunc(slices.Clone(s.mu.favourites), func(f favourite) bool { return f.Target == target })
	if len(next) == len(s.mu.favourites) {
		var known []string
		for _, f := range next {
			known = append(known, f.Target)
		}
		return fmt.Errorf("log out of %s: %w; this node keeps %s", target, ErrNotFound, orNone(known))
	}
	return s.storeLocked(next)
}

func (s *San) storeLocked(next []favourite) error {
	text, err := yaml.Marshal(file{next})
	if err != nil {
		return fmt.Errorf("write the favourites: %w", err)
	}
	if err := writeFile(s.favouritesPath(), text, 0o600); err != nil {
		return err
	}
	s.mu.favourites = next
	return nil
}

func readFavourites(path string) ([]favourite, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the favourites: %w", err)
	}
	var f file
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the favourites: %s: %w; mend it, or remove it and log in again", path, err)
	}
	for _, k := range f.Favourites {
		o := iscsi.Options{Portal: k.Portal, Target: k.Target, InitiatorName: "iqn.check", CHAP: k.CHAP.chap()}
		err := o.EnsureDefaults()
		if err = errors.Join(err, o.Validate()); err != nil || k.Target == "" {
			return nil, fmt.Errorf("read the favourites: %s: target %q: %w; mend it, or remove it and log in again", path, k.Target, err)
		}
	}
	return f.Favourites, nil
}

// writeFile replaces a file durably: whole or not at all.
func writeFile(path string, text []byte, mode os.FileMode) error {
	err := func() error {
		dir := filepath.Dir(path)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		tmp, err := os.CreateTemp(dir, "."+filepath.Base(path))
		if err != nil {
			return err
		}
		defer func() { _ = os.Remove(tmp.Name()) }() // nothing is there once it was renamed
		_, err = tmp.Write(text)
		if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
			return err
		}
		if err := os.Rename(tmp.Name(), path); err != nil {
			return err
		}
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// orderly is a host name as it may stand in an initiator name.
func orderly(host string) string {
	host = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' {
			return r
		}
		return '-'
	}, strings.ToLower(host))
	return host[:min(len(host), 64)]
}
