// Package membership is gossip between nodes (hashicorp/memberlist): who can be
// seen, over all networks of the cluster at once, encrypted with the cluster's key.
//
// It is called by cluster/node, which shows what it says and puts it beside what
// raft heard. It decides nothing: gossip takes five seconds and more to notice a
// death, and a fast restart can miss an accusation. It is the second opinion
// that tells a dead node from a cut cable.
package membership

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"go.uber.org/zap"
)

// leaveTimeout bounds how long a leave may take.
const leaveTimeout = 2 * time.Second

// Options are gossip's.
type Options struct {
	// Name is this node's, unique in the cluster.
	Name string
	// Advertise is the address by which the others know this node. It listens
	// on all, Port for both UDP and TCP.
	Advertise string
	Port      int
	// Key is 32 bytes (AES-256).
	Key []byte
	// Addresses returns where a node is reached, host:port on each network. It
	// is called from goroutines of gossip's.
	Addresses func(name string) []string
	Log       *zap.Logger
}

// Validate lists all that is wrong.
func (o Options) Validate() error {
	var errs []error
	if o.Name == "" {
		errs = append(errs, errors.New("gossip: no name"))
	}
	if net.ParseIP(o.Advertise) == nil {
		errs = append(errs, fmt.Errorf("gossip: %q is no address", o.Advertise))
	}
	if o.Port < 1 || o.Port > 65535 {
		errs = append(errs, fmt.Errorf("gossip: %d is no port", o.Port))
	}
	if o.Addresses == nil {
		errs = append(errs, errors.New("gossip: nobody to ask for the nodes' addresses"))
	}
	if len(o.Key) != 32 {
		errs = append(errs, fmt.Errorf("gossip: the key has %d bytes, want 32: gossip is never in the clear", len(o.Key)))
	}
	return errors.Join(errs...)
}

// State is what gossip says of a node.
type State string

// The states.
const (
	Alive State = "alive"
	Dead  State = "dead"
	Left  State = "left"
)

// Gossip is this node's part in it.
type Gossip struct {
	list *memberlist.Memberlist
	once sync.Once
	err  error // of the first Stop

	mu     sync.Mutex
	states map[string]State
}

// Start begins to listen; Join makes others known.
func Start(o Options) (*Gossip, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	g := &Gossip{states: map[string]State{}}
	c := memberlist.DefaultLANConfig()
	c.Name, c.BindAddr, c.BindPort = o.Name, bindAll(o.Advertise), o.Port
	c.AdvertiseAddr, c.AdvertisePort = o.Advertise, o.Port
	c.SecretKey = o.Key
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = true, true
	c.Events = (*events)(g)
	c.Logger = log.New(io.Discard, "", 0)
	if o.Log != nil {
		std, err := zap.NewStdLogAt(o.Log, zap.DebugLevel)
		if err != nil {
			return nil, err
		}
		c.Logger = std
	}
	transport, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{c.BindAddr}, BindPort: o.Port, Logger: c.Logger})
	if err != nil {
		return nil, fmt.Errorf("gossip: %w", err)
	}
	c.Transport = &spanning{NetTransport: transport, addresses: o.Addresses}
	list, err := memberlist.Create(c)
	if err != nil {
		_ = transport.Shutdown()
		return nil, fmt.Errorf("gossip on %s: %w", net.JoinHostPort(o.Advertise, strconv.Itoa(o.Port)), err)
	}
	g.list = list
	return g, nil
}

// bindAll is every address of addr's family.
func bindAll(addr string) string {
	if ip := net.ParseIP(addr); ip != nil && ip.To4() == nil {
		return "::"
	}
	return "0.0.0.0"
}

// Join contacts other nodes, by name with any address of theirs, host:port. One
// that answers is enough.
func (g *Gossip) Join(nodes map[string]string) error {
	var specs []string
	for name, addr := range nodes {
		specs = append(specs, name+"/"+addr)
	}
	_, err := g.list.Join(specs)
	return err
}

// States tells of each node ever seen what gossip says of it now.
func (g *Gossip) States() map[string]State {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := map[string]State{}
	for n, s := range g.states {
		out[n] = s
	}
	return out
}

// Stop tells the others and ends.
func (g *Gossip) Stop() error {
	g.once.Do(func() { g.err = errors.Join(g.list.Leave(leaveTimeout), g.list.Shutdown()) })
	return g.err
}

// events takes memberlist's notices.
type events Gossip

func (e *events) set(n *memberlist.Node, s State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n.State == memberlist.StateLeft {
		s = Left
	}
	e.states[n.Name] = s
}

// NotifyJoin implements memberlist.EventDelegate.
func (e *events) NotifyJoin(n *memberlist.Node) { e.set(n, Alive) }

// NotifyLeave implements memberlist.EventDelegate.
func (e *events) NotifyLeave(n *memberlist.Node) { e.set(n, Dead) }

// NotifyUpdate implements memberlist.EventDelegate.
func (e *events) NotifyUpdate(n *memberlist.Node) { e.set(n, Alive) }
