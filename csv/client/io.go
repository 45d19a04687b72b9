package client

import "sync"

// buffers are for I/O that is not aligned as the device needs it.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func buffer(n int64) *[]byte {
	b, _ := buffers.Get().(*[]byte)
	if int64(cap(*b)) < n {
		*b = make([]byte, n)
	}
	*b = (*b)[:n]
	return b
}

// readAt fills p from byte at of the device, whatever the alignment.
func (c *Client) readAt(p []byte, at int64) error {
	lo, hi := at/c.blockSize*c.blockSize, (at+int64(len(p))+c.blockSize-1)/c.blockSize*c.blockSize
	if lo == at && hi == at+int64(len(p)) {
		return c.inParts(len(p), func(from, to int) error { return c.readDevice(p[from:to], at+int64(from)) })
	}
	b := buffer(hi - lo)
	defer buffers.Put(b)
	if err := c.readDevice(*b, lo); err != nil {
		return err
	}
	copy(p, (*b)[at-lo:])
	return nil
}

// writeAt writes p at byte at of the device; what shares device blocks with it is
// read first. The caller keeps others off those blocks: those of this node by
// lockRange, other nodes by the exclusive lease.
func (c *Client) writeAt(p []byte, at int64) error {
	lo, hi := at/c.blockSize*c.blockSize, (at+int64(len(p))+c.blockSize-1)/c.blockSize*c.blockSize
	if lo == at && hi == at+int64(len(p)) {
		return c.inParts(len(p), func(from, to int) error { return c.writeDevice(p[from:to], at+int64(from)) })
	}
	b := buffer(hi - lo)
	defer buffers.Put(b)
	if err := c.readAt((*b)[:c.blockSize], lo); err != nil {
		return err
	}
	if hi-lo > c.blockSize {
		if err := c.readAt((*b)[hi-lo-c.blockSize:], hi-c.blockSize); err != nil {
			return err
		}
	}
	copy((*b)[at-lo:], p)
	return c.writeDevice(*b, lo)
}
