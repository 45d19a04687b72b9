package vm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"quorate/internal/qmp"

	"go.uber.org/zap"
	"go.yaml.in/yaml/v4"
)

// Restore makes a process of the machine in folder and loads a saved state into it. It is
// paused, and has written nothing: whoever calls uses the state up and lets it run, or
// ends it. The file is not changed. ErrState says that it is not the one that is wanted,
// or cannot be loaded on this node; ErrRunning that there is a process already.
func (h *Host) Restore(ctx context.Context, folder, path string, want StateInfo) (*Machine, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrState, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Size() != want.Size {
		return nil, errors.Join(fmt.Errorf("%w: %s does not have %d bytes", ErrState, path, want.Size), err)
	}
	in := &summing{r: f}
	head, err := readHeader(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrState, path, err)
	}
	a, err := h.Probe(ctx)
	if err != nil {
		return nil, err
	}
	if a.accel() != head.Accel {
		return nil, fmt.Errorf("%w: it was saved with %s, and this node runs machines with %s: start it on a node like the one that saved it", ErrState, head.Accel, a.accel())
	}
	m, started, err := h.launch(ctx, head.Settings, folder, true)
	if err != nil {
		return nil, err
	}
	if !started {
		return nil, fmt.Errorf("%w: %s, process %d: %w", ErrRunning, head.Settings.Name, m.PID(), m.Close())
	}
	if err := m.load(ctx, in, want); err != nil {
		err = m.lastWords(err)
		if ctx.Err() == nil && !whole(path, want) {
			err = fmt.Errorf("%w: %s is not as it was written: its checksum differs", ErrState, path)
		} else if ctx.Err() == nil {
			err = fmt.Errorf("%w: QEMU %s has saved it, and QEMU here says: %w", ErrState, head.QEMU, err)
		}
		return nil, errors.Join(err, m.Kill(context.WithoutCancel(ctx)))
	}
	h.o.Log.Info("machine restored", zap.String("vm", m.Name()), zap.Int("pid", m.PID()))
	return m, nil
}

// whole tells whether a file is the state that is wanted, from its first byte to its last.
func whole(path string, want StateInfo) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	in := &summing{r: f}
	_, err = io.CopyBuffer(io.Discard, in, make([]byte, stateBuffer))
	return err == nil && in.crc == want.CRC32C && in.n == want.Size
}

// load gives QEMU the rest of a state, and waits until it has it all.
func (m *Machine) load(ctx context.Context, in *summing, want StateInfo) error {
	mon, err := m.Monitor(ctx)
	if err != nil {
		return err
	}
	path := m.paths.relay()
	if err := mon.MigrateIncoming(ctx, "unix:"+path); err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	copied := carry(conn, in, conn)
	if copied == nil {
		copied = conn.Close()
	}
	if err := ended(ctx, mon); err != nil || copied != nil {
		return errors.Join(copied, err)
	}
	if in.crc != want.CRC32C || in.n != want.Size {
		return errors.New("its checksum differs")
	}
	if s, err := m.Status(ctx); err != nil || s.Status != qmp.RunStatePaused {
		return errors.Join(fmt.Errorf("it is %q and not paused", s.Status), err)
	}
	return nil
}

// lastWords puts what QEMU said last into an error.
func (m *Machine) lastWords(err error) error {
	log, openErr := os.Open(m.paths.log())
	if openErr != nil {
		return err
	}
	defer log.Close()
	return startError(m.Name(), err, log)
}

func readHeader(in io.Reader) (stateHeader, error) {
	var h stateHeader
	head := make([]byte, len(stateMagic)+4)
	if _, err := io.ReadFull(in, head); err != nil {
		return h, err
	}
	n := binary.BigEndian.Uint32(head[len(stateMagic):])
	if string(head[:len(stateMagic)]) != stateMagic || n > maxStateHeader {
		return h, errors.New("it does not begin as a saved state does")
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(in, text); err != nil {
		return h, err
	}
	if err := yaml.Unmarshal(text, &h); err != nil {
		return h, err
	}
	return h, h.Settings.Validate()
}

// summing counts and sums what is read through it.
type summing struct {
	r io.Reader
	sum
}

// Read implements io.Reader.
func (s *summing) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.add(b[:n])
	return n, err
}
