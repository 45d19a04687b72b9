package vm

import (
	"context"
	"io"
)

// SaveTo is Save to something else than a file.
func (m *Machine) SaveTo(ctx context.Context, w io.Writer) error {
	_, err := m.save(ctx, w)
	return err
}
