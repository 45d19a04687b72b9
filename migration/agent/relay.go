package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the relay.
const (
	relayBuffer = 256 << 10 // bytes, each way
	// stalled is how long a write of the relay may wait for the other side.
	stalled = 5 * time.Second
)

// relay carries QEMU's connections over. It ends as a whole: when one of its
// connections breaks, all are closed, and QEMU gives up.
type relay struct {
	sent   atomic.Int64 // bytes from QEMU of the source
	broken func(error)  // called once, with the first thing that breaks it
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		closed bool
		ends   []io.Closer
	}
}

// own makes the relay close an end of it when it is closed. It returns false,
// and closes the end, if that has happened already.
func (r *relay) own(c io.Closer) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		_ = c.Close() // nothing was sent on it
		return false
	}
	r.mu.ends = append(r.mu.ends, c)
	return true
}

// close breaks all connections. It does not wait: QEMU's ends are closed when it
// returns, and the goroutines end soon.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.closed = true
	for _, c := range r.mu.ends {
		_ = c.Close() // it is broken on purpose
	}
	r.mu.ends = nil
}

// fail closes the relay because of err, unless it was closed before.
func (r *relay) fail(err error) {
	r.mu.Lock()
	was := r.mu.closed
	r.mu.closed = true
	r.mu.Unlock()
	r.close()
	if !was && r.broken != nil {
		r.broken(err)
	}
}

// join carries bytes between QEMU and the other node until both have said that
// they are done.
func (r *relay) join(qemu, peer net.Conn) {
	if !r.own(qemu) || !r.own(peer) {
		return
	}
	r.wg.Go(func() { r.pump(peer, qemu, &r.sent, "QEMU to the other node") })
	r.wg.Go(func() { r.pump(qemu, peer, nil, "the other node to QEMU") })
}

// pump carries one direction, its end included.
func (r *relay) pump(dst, src net.Conn, count *atomic.Int64, what string) {
	buf := make([]byte, relayBuffer)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if werr := dst.SetWriteDeadline(time.Now().Add(stalled)); werr != nil {
				err = errors.Join(err, werr)
			} else if _, werr := dst.Write(buf[:n]); werr != nil {
				r.fail(fmt.Errorf("the relay from %s: %w", what, werr))
				return
			}
			if count != nil {
				count.Add(int64(n))
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			if cw, ok := dst.(interface{ CloseWrite() error }); ok {
				_ = cw.CloseWrite() // the other direction tells if it is broken
			}
			return
		case err != nil:
			r.fail(fmt.Errorf("the relay from %s: %w", what, err))
			return
		}
	}
}
