// Package lab raises a cluster in a box on this machine: nodes s1, s2, ..., each a
// server with processes, mounts, hostname and networks of its own, a SAN with
// LUNs, and the networks of a real installation between them.
//
// It is called by cmd/clusterlab, the end-to-end tests, the demo and the
// benches. The product knows nothing of it.
//
// How it looks: every node, the SAN and the switch is a box (test/lab/box). The
// networks are bridges in the switch's namespace, so nothing is on the host's own
// network and several labs live side by side. A node has three interfaces:
// clients, enslaved to a bridge br0 that carries its address and that its guests
// join; storage; migration. What a lab is lies in its folder: lab.json, one
// folder per box, the LUNs as sparse files.
//
// Traps: it needs root. A program that uses it must call box.MaybeInit first in
// main. A power cut takes the node off the networks before its processes are
// killed, so that no peer sees a connection close. Two programs must not change
// one lab at the same moment: the folder is locked while they do.
package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"quorate/test/lab/box"
)

// Lab is a lab that was raised, by this program or another.
type Lab struct {
	o     Options
	state state
}

// state is what lies in lab.json beside the options.
type state struct {
	Options Options `json:"options"`
	// Cuts are the cables that were pulled, node by node; a power cut does
	// not put them back.
	Cuts map[string][]string `json:"cuts"`
	// Programs are the folders of nodes whose programs are not those of the
	// options.
	Programs map[string]string `json:"programs,omitempty"`
}

// Up raises a lab. If anything fails, what there is already is taken down again,
// but for the logs in the folder.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := Missing(o); err != nil {
		return nil, err
	}
	if found, err := box.Find(o.Dir); err != nil || len(found) > 0 {
		return nil, errors.Join(fmt.Errorf("a lab runs in %s already: take it down first", o.Dir), err)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	l := &Lab{o: o, state: state{Options: o, Cuts: map[string][]string{}}}
	if err := l.raise(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("raise the lab in %s: %w", o.Dir, err), killAll(o.Dir))
	}
	return l, nil
}

func (l *Lab) raise(ctx context.Context) error {
	if err := l.save(); err != nil {
		return err
	}
	if err := l.lay(); err != nil {
		return err
	}
	if err := l.startSwitch(ctx); err != nil {
		return err
	}
	if err := l.startSAN(ctx); err != nil {
		return err
	}
	if err := l.startAdmin(ctx); err != nil {
		return err
	}
	for _, n := range l.Nodes() {
		if err := l.boot(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// Open finds the lab whose folder is dir.
func Open(dir string) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(dir, "lab.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no lab in %s: raise one with clusterlab up", dir)
	}
	if err != nil {
		return nil, err
	}
	l := &Lab{}
	if err := json.Unmarshal(b, &l.state); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, "lab.json"), err)
	}
	l.o = l.state.Options
	l.o.Dir = dir
	if l.state.Cuts == nil {
		l.state.Cuts = map[string][]string{}
	}
	return l, nil
}

func (l *Lab) save() error {
	b, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return err
	}
	tmp := filepath.Join(l.o.Dir, "lab.json.new")
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(l.o.Dir, "lab.json"))
}

// change runs do under the folder's lock, with the state as it is now.
func (l *Lab) change(do func() error) error {
	unlock, err := lock(l.o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := Open(l.o.Dir)
	if err != nil {
		return err
	}
	l.state = now.state
	return do()
}

func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// Down takes the lab down and removes its folder.
func (l *Lab) Down() error { return Down(l.o.Dir) }

// Down takes down whatever there is of a lab in dir, a half-raised one too, and
// removes the folder. Where there is none it does nothing. A folder that has
// neither a lab.json nor a running box is left alone.
func Down(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	found, err := box.Find(dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(dir, "lab.json")); err != nil && len(found) == 0 {
		return nil
	}
	if err := killAll(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// killAll ends every box below dir. Namespaces, mounts and interfaces end with
// the processes that are in them.
func killAll(dir string) error {
	found, err := box.Find(dir)
	if err != nil {
		return err
	}
	var faults []error
	for at := range found {
		faults = append(faults, box.At(at).Kill())
	}
	return errors.Join(faults...)
}

// Dir is the lab's folder.
func (l *Lab) Dir() string { return l.o.Dir }

// Nodes lists the names of the nodes.
func (l *Lab) Nodes() []string {
	var out []string
	for i := range l.o.Nodes {
		out = append(out, fmt.Sprintf("s%d", i+1))
	}
	return out
}

// index is a node's number, from 1.
func (l *Lab) index(node string) (int, error) {
	for i, n := range l.Nodes() {
		if n == node {
			return i + 1, nil
		}
	}
	return 0, fmt.Errorf("there is no node %q in this lab; there are %s", node, strings.Join(l.Nodes(), ", "))
}

// NodeDir is a node's folder on the host: its logs, and what it has in
// /etc/quorate (etc), /var/lib/quorate (var) and below /ClusterStorage (storage).
func (l *Lab) NodeDir(node string) string { return filepath.Join(l.o.Dir, node) }

func (l *Lab) box(name string) box.Box { return box.At(filepath.Join(l.o.Dir, name)) }
