//go:build !cgo

package iscsi

import (
	"context"
	"errors"

	"quorate/disk"
)

var errNoCgo = errors.New("this program was built without cgo and has no iSCSI initiator: build it with CGO_ENABLED=1 and libiscsi-dev, or log in by the kernel's initiator and name the LUN by its path in /dev/disk/by-id")

// Open returns an error: there is no initiator without cgo.
func Open(context.Context, Options) (disk.LUN, error) { return nil, errNoCgo }

// Discover returns an error: there is no initiator without cgo.
func Discover(context.Context, string, Options) ([]Target, error) { return nil, errNoCgo }

// List returns an error: there is no initiator without cgo.
func List(context.Context, Options) ([]disk.Info, error) { return nil, errNoCgo }
