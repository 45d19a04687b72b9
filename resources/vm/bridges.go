package vm

import (
	"cmp"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
)

// Bridge is a bridge of this node, that taps can be put on.
type Bridge struct {
	Name string
	// Up: it forwards. Whether it has a cable it does not say.
	Up bool
}

// Bridges are those of this node, by their names.
func Bridges() ([]Bridge, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("vm: list this node's bridges: %w", err)
	}
	var out []Bridge
	for _, l := range links {
		if l.Type() == "bridge" {
			out = append(out, Bridge{Name: l.Attrs().Name, Up: l.Attrs().Flags&net.FlagUp != 0})
		}
	}
	slices.SortFunc(out, func(a, b Bridge) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}
