package membership

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/memberlist"
)

// spanning carries gossip over every network at once: a packet goes to all
// addresses of a node, for memberlist does not mind to hear a thing twice, and a
// connection to the first that answers. What it carries memberlist has encrypted.
type spanning struct {
	*memberlist.NetTransport
	addresses func(name string) []string
}

var _ memberlist.NodeAwareTransport = (*spanning)(nil)

// of are the addresses of a node, host:port; of one that is not known by its name,
// the one that memberlist has.
func (t *spanning) of(a memberlist.Address) []string {
	if a.Name != "" {
		if list := t.addresses(a.Name); len(list) > 0 {
			return list
		}
	}
	return []string{a.Addr}
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (t *spanning) WriteToAddress(b []byte, a memberlist.Address) (sent time.Time, err error) {
	var errs []error
	for _, addr := range t.of(a) {
		at, err := t.NetTransport.WriteToAddress(b, memberlist.Address{Addr: addr})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if sent.IsZero() {
			sent = at
		}
	}
	if sent.IsZero() {
		return sent, errors.Join(errs...)
	}
	return sent, nil
}

// DialAddressTimeout implements memberlist.NodeAwareTransport.
func (t *spanning) DialAddressTimeout(a memberlist.Address, timeout time.Duration) (net.Conn, error) {
	type dialled struct {
		conn net.Conn
		err  error
	}
	addrs := t.of(a)
	results := make(chan dialled, len(addrs))
	for _, addr := range addrs {
		go func() {
			conn, err := t.NetTransport.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
			results <- dialled{conn, err}
		}()
	}
	var errs []error
	for i := range addrs {
		r := <-results
		if r.err != nil {
			errs = append(errs, r.err)
			continue
		}
		go func() { // the slower ones are not needed
			for range len(addrs) - i - 1 {
				if late := <-results; late.err == nil {
					_ = late.conn.Close()
				}
			}
		}()
		return r.conn, nil
	}
	return nil, fmt.Errorf("reach %s: %w", a.Name, errors.Join(errs...))
}
