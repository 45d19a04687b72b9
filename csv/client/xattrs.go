package client

import (
	"errors"
	"fmt"
	"syscall"

	"quorate/csv/csvpb"
)

// Xattr returns an extended attribute's value as it is now on all nodes, or ENODATA. An
// inode that has none costs no message.
func (c *Client) Xattr(ino uint64, name string) ([]byte, error) {
	i, err := c.Stat(ino)
	if err != nil {
		return nil, err
	}
	if i != nil && i.HasXattrs != nil && !*i.HasXattrs {
		return nil, fmt.Errorf("inode %d has no attribute %q: %w", ino, name, syscall.ENODATA)
	}
	resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_GetXattr{GetXattr: &csvpb.GetXattr{Ino: ino, Name: []byte(name)}}}, nil, nil)
	if err != nil {
		return nil, unsupported(err)
	}
	return resp.Data, nil
}

// Xattrs lists the names of an inode's extended attributes.
func (c *Client) Xattrs(ino uint64) ([][]byte, error) {
	i, err := c.Stat(ino)
	if err != nil {
		return nil, err
	}
	if i != nil && i.HasXattrs != nil && !*i.HasXattrs {
		return nil, nil
	}
	resp, err := c.do(&csvpb.Request{Op: &csvpb.Request_ListXattr{ListXattr: &csvpb.ListXattr{Ino: ino}}}, nil, nil)
	if err != nil {
		return nil, unsupported(err)
	}
	return resp.Names, nil
}

// SetXattr sets an extended attribute; flags are those of setxattr(2).
func (c *Client) SetXattr(ino uint64, name string, value []byte, flags uint32) error {
	_, err := c.inodeOf(&csvpb.Request{Op: &csvpb.Request_SetXattr{SetXattr: &csvpb.SetXattr{
		Ino: ino, Name: []byte(name), Value: value, Flags: flags,
	}}, Origin: c.origin})
	return unsupported(err)
}

// RemoveXattr removes an extended attribute.
func (c *Client) RemoveXattr(ino uint64, name string) error {
	_, err := c.inodeOf(&csvpb.Request{Op: &csvpb.Request_RemoveXattr{RemoveXattr: &csvpb.RemoveXattr{Ino: ino, Name: []byte(name)}}, Origin: c.origin})
	return unsupported(err)
}

// unsupported is EOPNOTSUPP where a coordinator of an earlier version does not know what
// was asked: the kernel takes ENOSYS as an answer for good.
func unsupported(err error) error {
	if errors.Is(err, syscall.ENOSYS) {
		return fmt.Errorf("%w: %w", syscall.EOPNOTSUPP, err)
	}
	return err
}
