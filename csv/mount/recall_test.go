package mount_test

import (
	"bytes"
	"context"
	"testing"
	"testing/synctest"
	"time"

	"quorate/csv/volume"
	"quorate/disk"
)

// paused is a device whose writes wait while hold is set.
type paused struct {
	disk.Device
	hold chan struct{} // closed: writes go on
}

func (p *paused) WriteAt(ctx context.Context, b []byte, at int64) error {
	if p.hold != nil {
		<-p.hold
	}
	return p.Device.WriteAt(ctx, b, at)
}

// TestRecallDuringAWrite: a write to new space that was under way when another node
// wanted to see the file is told at once when it is done. By the clock of the bubble,
// which stands still while anything can go on, nobody has waited for a timer.
func TestRecallDuringAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dev *paused
		g := newGrowing(t, small, func(r *rig) *node {
			dev = &paused{Device: r.open("node1")}
			return r.clientOn(1, dev)
		})
		p := bytes.Repeat([]byte{3}, volume.BlockSize)
		dev.hold = make(chan struct{})
		done := make(chan error, 2)
		go func() { done <- g.a.Write(g.ino, p, int64(len(g.want))) }()
		synctest.Wait()
		began := time.Now()
		go func() { _, err := g.b.Stat(g.ino); done <- err }()
		synctest.Wait()
		close(dev.hold)
		must(t, <-done)
		must(t, <-done)
		if waited := time.Since(began); waited > 0 {
			t.Errorf("the other node waited %v", waited)
		}
		g.want = append(g.want, p...)
		g.holds(g.b)
	})
}
