package client

import (
	"errors"
	"sync"
)

const (
	// partSize is what a large read or write is cut into, in bytes.
	partSize = 256 << 10
	// fewLarge is how many of them may be under way for another to be cut: more keep the
	// target busy by themselves.
	fewLarge = 4
)

// inParts does a read or write of n bytes at once, part by part: while the target has one
// part on its disk, the next is on its way. The parts may be done in any order, and where
// one fails others may have been done, as with a write that is whole.
func (c *Client) inParts(n int, do func(from, to int) error) error {
	if n <= partSize {
		return do(0, n)
	}
	defer c.large.Add(-1)
	if c.large.Add(1) > fewLarge {
		return do(0, n)
	}
	errs := make([]error, (n+partSize-1)/partSize)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = do(i*partSize, min((i+1)*partSize, n)) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
