package consensus

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"quorate/cluster/consensus/consensuspb"
)

// Bounds of a path.
const (
	// smallFrame is up to what size a frame goes over every path, in bytes.
	smallFrame = 4 << 10
	// eagerRead is up to what size room is made for a frame before it is there.
	eagerRead = 128 << 10
	// maxFrame bounds one frame, a snapshot included, in bytes.
	maxFrame = 64 << 20
	// batchedWrite is how much is gathered for one write, in bytes.
	batchedWrite = 64 << 10
	// pathQueue is how many frames wait for a path; more are dropped.
	pathQueue    = 512
	dialTimeout  = time.Second
	redialAfter  = 200 * time.Millisecond
	writeTimeout = time.Second
	readTimeout  = 10 * time.Second
)

// path is one address of one peer, for sending.
type path struct {
	t         *Transport
	peer      uint64
	addr      string
	order     int
	queue     chan []byte
	connected atomic.Bool
	// heard is when the peer last showed that what is sent here arrives, in
	// nanoseconds since the transport began; acks is set once it does so.
	heard  atomic.Int64
	acks   atomic.Bool
	ctx    context.Context
	cancel context.CancelFunc
}

func newPath(t *Transport, peer uint64, addr string, order int) *path {
	p := &path{t: t, peer: peer, addr: addr, order: order, queue: make(chan []byte, pathQueue)}
	p.ctx, p.cancel = context.WithCancel(t.ctx)
	p.hear()
	return p
}

func (p *path) hear() { p.heard.Store(int64(time.Since(p.t.began))) }

// lastHeard is when the path was last known to be whole.
func (p *path) lastHeard() time.Time {
	if p.connected.Load() && !p.acks.Load() {
		return time.Now() // of a version that does not answer
	}
	return p.t.began.Add(time.Duration(p.heard.Load()))
}

// wholeWithin is for how many keepalives a path that is silent counts as whole.
const wholeWithin = 4

// whole tells whether what is sent now is likely to arrive.
func (p *path) whole() bool {
	return p.connected.Load() && time.Since(p.lastHeard()) < wholeWithin*p.t.keepAliveEvery()
}

// offer queues a frame, and tells whether it may arrive.
func (p *path) offer(frame []byte) bool {
	if !p.connected.Load() {
		return false
	}
	select {
	case p.queue <- frame:
		return true
	default:
		return false
	}
}

func (p *path) run() {
	defer p.t.wg.Done()
	log := p.t.opt.Log.With(zap.Uint64("peer", p.peer), zap.String("address", p.addr))
	failing := false
	for p.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
		conn, err := p.t.opt.Dial(ctx, p.peer, p.addr)
		cancel()
		if err == nil {
			log.Debug("path is up")
			failing = false
			err = p.write(conn)
			conn.Close()
		}
		if !failing && p.ctx.Err() == nil {
			log.Info("path is down", zap.Error(err))
			failing = true
		}
		select {
		case <-p.ctx.Done():
		case <-time.After(redialAfter):
		}
	}
}

func (p *path) write(conn net.Conn) error {
	defer p.connected.Store(false)
	// What waited for the connection before is of yesterday.
	for len(p.queue) > 0 {
		<-p.queue
	}
	p.hear()
	p.connected.Store(true)
	// The peer writes a byte for each keepalive: a read fails when it is gone.
	gone := make(chan error, 1)
	go func() {
		for {
			if _, err := conn.Read(make([]byte, 64)); err != nil {
				gone <- fmt.Errorf("closed by the peer: %w", err)
				return
			}
			p.hear()
			p.acks.Store(true)
		}
	}()
	keep := time.NewTimer(p.t.keepAliveEvery())
	defer keep.Stop()
	var batch []byte
	for {
		var frame []byte
		select {
		case <-p.ctx.Done():
			return p.ctx.Err()
		case err := <-gone:
			return err
		case frame = <-p.queue:
		case <-keep.C:
			frame = p.t.keepalive()
			keep.Reset(p.t.keepAliveEvery())
		}
		// What waits goes in the same write, up to a bound.
		if len(p.queue) > 0 && len(frame) < batchedWrite {
			batch = append(kept(batch), frame...)
			for len(p.queue) > 0 && len(batch) < batchedWrite {
				batch = append(batch, <-p.queue...)
			}
			frame = batch
		}
		_ = conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := conn.Write(frame); err != nil {
			return err
		}
	}
}

func encodeFrame(f *consensuspb.Frame) []byte {
	size := proto.Size(f)
	buf := binary.BigEndian.AppendUint32(make([]byte, 0, 4+size), uint32(size))
	buf, err := proto.MarshalOptions{}.MarshalAppend(buf, f)
	if err != nil {
		panic(fmt.Sprintf("frame with bytes and numbers alone: %v", err))
	}
	return buf
}

// frames reads frames, through a buffer that it uses again: what a frame has is its own.
type frames struct {
	r   io.Reader
	buf []byte
}

func (r *frames) next() (*consensuspb.Frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("frame of %d bytes, at most %d", size, maxFrame)
	}
	// What is large is grown as it comes, so that a length alone takes no memory.
	r.buf = slices.Grow(kept(r.buf), int(min(size, eagerRead)))
	body := r.buf[:min(size, eagerRead)]
	if _, err := io.ReadFull(r.r, body); err != nil {
		return nil, err
	}
	if size > eagerRead {
		rest, err := io.ReadAll(io.LimitReader(r.r, int64(size-eagerRead)))
		if err != nil {
			return nil, err
		}
		if body = append(body, rest...); len(body) != int(size) {
			return nil, io.ErrUnexpectedEOF
		}
	}
	f := &consensuspb.Frame{}
	if err := proto.Unmarshal(body, f); err != nil {
		return nil, fmt.Errorf("damaged frame: %w", err)
	}
	return f, nil
}
