package keeper

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"

	"quorate/disk"
)

// abort stops all at once, after the gate was closed and the machines killed.
func (a *attached) abort() {
	a.mu.Lock()
	a.ended = true
	coord := a.coord
	a.mu.Unlock()
	if coord != nil {
		coord.Abandon()
	}
	a.c.Abort()
}

// gone takes the mount away after abort.
func (a *attached) gone() {
	if err := a.m.Unmount(context.Background(), true); err != nil {
		a.log.Error("the mount was left behind", zap.Error(err))
	}
	a.unhold()
	a.watched.Wait()
}

// close ends the use of the volume in an orderly way; files must be closed.
func (a *attached) close(ctx context.Context, keepKey bool) error {
	if err := a.m.Unmount(ctx, false); err != nil {
		return err
	}
	a.unhold()
	err := a.c.Close(ctx)
	err = errors.Join(err, a.relinquish(ctx))
	a.mu.Lock()
	a.ended = true
	a.mu.Unlock()
	a.gate.close()
	if !keepKey {
		err = errors.Join(err, a.unregister(ctx))
	}
	a.watched.Wait()
	return errors.Join(err, a.gate.Close())
}

// unregister removes the own key from the LUN.
func (a *attached) unregister(ctx context.Context) error {
	err := reserve(ctx, a.gate.LUN(), disk.ReserveOut{Action: disk.Register, Key: a.key})
	if err != nil && !errors.Is(err, disk.ErrConflict) {
		return fmt.Errorf("unregister key %s of volume %q: %w", a.key, a.name, err)
	}
	return nil
}

// end closes the volume in good order, or else at once; whatever happens, nothing
// of it can write afterwards.
func (a *attached) end(ctx context.Context) error {
	orderly, cancel := context.WithTimeout(ctx, endTimeout)
	defer cancel()
	err := a.close(orderly, false)
	for err != nil && errors.Is(err, syscall.EBUSY) && orderly.Err() == nil {
		select { // processes that were killed are on their way out
		case <-orderly.Done():
		case <-time.After(againPause / 4):
			err = a.close(orderly, false)
		}
	}
	clean := !a.gate.uncertain.Load()
	if err != nil {
		a.log.Warn("the volume is not closed in good order", zap.Error(err))
		err = a.relinquish(ctx)
		a.gate.close()
		clean = a.gate.drained(drainLimit)
		a.abort()
		a.gone()
		if err = errors.Join(err, a.unregister(ctx), a.gate.Close()); err != nil {
			a.log.Warn("the volume was closed all the same", zap.Error(err), zap.Bool("clean", clean))
		}
	}
	if !clean {
		return fmt.Errorf("volume %q: %w", a.name, errUnclean)
	}
	return nil
}

// errUnclean says that this node cannot tell whether its writes have ended.
var errUnclean = errors.New("writes may still be under way at the target")

// settle makes sure, over a new session, that nothing that the node sent to the
// LUN is still under way, and removes the key.
func (a *attached) settle(ctx context.Context, open func(context.Context) (disk.LUN, error)) error {
	lun, err := open(ctx)
	if err != nil {
		return fmt.Errorf("volume %q: %w: %w", a.name, errUnclean, err)
	}
	defer func() { _ = lun.Close() }()
	if _, err := readLabel(ctx, lun); err != nil { // past the unit attentions
		return fmt.Errorf("volume %q: %w: %w", a.name, errUnclean, err)
	}
	if err := lun.ResetUnit(ctx); err != nil {
		return fmt.Errorf("volume %q: %w: %w", a.name, errUnclean, err)
	}
	err = reserve(ctx, lun, disk.ReserveOut{Action: disk.Register, Key: a.key})
	if err != nil && !errors.Is(err, disk.ErrConflict) {
		a.log.Warn("the key is left on the LUN", zap.Error(err))
	}
	return nil
}
