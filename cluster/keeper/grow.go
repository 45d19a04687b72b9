package keeper

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"quorate/cluster/keeper/keeperpb"
	"quorate/csv/volume"
)

// grow reads the size of a volume's LUN again, and takes it in where this node is to.
func (k *Keeper) grow(ctx context.Context, m *keeperpb.GrowRequest) (*keeperpb.GrowResponse, error) {
	a, err := k.volume(m.Volume)
	if err != nil {
		return nil, err
	}
	info, err := a.gate.Rescan(ctx)
	if err != nil {
		return nil, connect.NewError(connect.CodeUnavailable, fmt.Errorf("volume %q: %w", a.name, err))
	}
	res := &keeperpb.GrowResponse{LunSize: info.Size}
	if m.Look {
		return res, nil
	}
	a.admin.Lock()
	defer a.admin.Unlock()
	c := a.coordinating()
	if c == nil {
		return nil, connect.NewError(connect.CodeFailedPrecondition, fmt.Errorf("volume %q is coordinated by another node: ask there", a.name))
	}
	res.From, res.To, err = c.Extend(ctx)
	switch {
	case errors.Is(err, volume.ErrNotGrown):
		return nil, connect.NewError(connect.CodeFailedPrecondition, err)
	case err != nil:
		return nil, connect.NewError(connect.CodeUnavailable, err)
	}
	return res, nil
}
