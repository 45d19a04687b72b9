package guest

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Pulse listens to the serial console of one process of a guest, and keeps when what
// came first and what came last arrived here, by this machine's clock: a guest's own
// stands still with the guest. With Options.Pulse something comes each millisecond.
type Pulse struct {
	conn net.Conn
	done chan struct{}

	mu          sync.Mutex
	first, last time.Time
}

// Follow connects to a console's unix socket, which serves one client. Close it.
func Follow(path string) (*Pulse, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("guest: following the console: %w", err)
	}
	p := &Pulse{conn: conn, done: make(chan struct{})}
	go p.read()
	return p, nil
}

func (p *Pulse) read() {
	defer close(p.done)
	for buf := make([]byte, 4096); ; {
		n, err := p.conn.Read(buf)
		now := time.Now()
		if n > 0 {
			p.mu.Lock()
			if p.first.IsZero() {
				p.first = now
			}
			p.last = now
			p.mu.Unlock()
		}
		if err != nil {
			return // the process ended, or Close
		}
	}
}

// Seen is when something arrived first and last; zero if nothing did.
func (p *Pulse) Seen() (first, last time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first, p.last
}

// Close ends it.
func (p *Pulse) Close() {
	_ = p.conn.Close() // it was only read from
	<-p.done
}
