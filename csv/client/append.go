package client

import (
	"errors"
	"syscall"

	"quorate/csv/volume"
)

// appendTo writes at a file's end. The exclusive lease keeps the end where it is
// for other nodes, and the lock of the whole file for this one.
func (c *Client) appendTo(in *inode, p []byte) error {
	whole := span{0, volume.MaxFileSize}
	if err := c.lockRange(in, whole); err != nil {
		return err
	}
	defer c.unlockRange(in, whole)
	for {
		i, err := c.Stat(in.ino)
		if err != nil {
			return err
		}
		if err := checkRange(in.ino, i.Size, len(p)); err != nil {
			return err
		}
		done, err := c.appendAt(in, p, i.Size)
		if done || err != nil && !errors.Is(err, syscall.ESTALE) {
			return err
		}
	}
}

// appendAt writes at off if that is still the end.
func (c *Client) appendAt(in *inode, p []byte, off int64) (bool, error) {
	h, err := c.acquire(in, off, len(p), true)
	if err != nil {
		return false, err
	}
	defer c.unpin(in)
	if h.size != off {
		return false, nil
	}
	if err := c.writeSegments(h, p, off); err != nil {
		return false, err
	}
	err = c.commit(in, h, off, off+int64(len(p)))
	return err == nil, err
}
