package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/resources/vm"
)

const (
	// storageInterval is how often is looked how a mirror stands.
	storageInterval = 200 * time.Millisecond
	// switchRetry is how long is waited before a switch whose outcome is not known is
	// proposed again.
	switchRetry = 100 * time.Millisecond
)

// storageMoves are the moves of machines between volumes that this node makes, one after
// the other: what one copies the others would wait for.
type storageMoves struct {
	m    *member
	turn chan struct{}

	mu     sync.Mutex
	copies map[string]*copied // by machine
	// holding are the machines whose disks are held: nothing else is done with them.
	holding map[string]bool
}

// copied is how far a copy is, in bytes.
type copied struct {
	move        uint64
	done, total int64
}

func newStorageMoves(m *member) *storageMoves {
	return &storageMoves{m: m, turn: make(chan struct{}, 1), copies: map[string]*copied{}, holding: map[string]bool{}}
}

// held names the machines whose disks are held.
func (v *storageMoves) held() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var out []string
	for name := range v.holding {
		out = append(out, name)
	}
	return out
}

// progress is how far the copy of a move is; zero where it is not made here.
func (v *storageMoves) progress(name string, move uint64) (done, total int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.copies[name]; c != nil && c.move == move {
		return c.done, c.total
	}
	return 0, 0
}

func (v *storageMoves) copiedIs(name string, change func(*copied)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if c := v.copies[name]; c != nil {
		change(c)
	}
}

// move carries a machine's folder to another volume: what of it fails is undone.
func (v *storageMoves) move(ctx context.Context, act cluster.MoveStorage) error {
	select {
	case v.turn <- struct{}{}:
		defer func() { <-v.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if _, err := v.m.propose(ctx, &pb.Command{Kind: &pb.Command_StorageMoveBegin{StorageMoveBegin: &pb.StorageMoveBegin{Group: act.Group, Id: act.Move}}}); err != nil {
		return err
	}
	v.mu.Lock()
	v.copies[act.Group] = &copied{move: act.Move}
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		delete(v.copies, act.Group)
		v.mu.Unlock()
	}()
	began := time.Now()
	err := v.carry(ctx, act)
	v.m.log.Info("move between volumes ended", zap.String("machine", act.Group), zap.String("from", act.From), zap.String("to", act.To),
		zap.Duration("took", time.Since(began)), zap.Error(err))
	if err == nil || ctx.Err() != nil {
		return err // who comes next finds it begun
	}
	_, err = v.m.propose(ctx, cluster.StorageFailed(act.Group, act.Move, err.Error()))
	return err
}

// wanted is a context that ends when the move is given up.
func (v *storageMoves) wanted(ctx context.Context, act cluster.MoveStorage) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		for ctx.Err() == nil {
			next := v.m.db.next()
			v.m.db.view(func(s *pb.State) {
				if mv := s.Groups[act.Group].GetStorageMove(); mv.GetId() != act.Move || mv.Step != pb.StorageStep_STORAGE_STEP_COPYING {
					cancel(fmt.Errorf("it was given up: %s", mv.GetReason()))
				}
			})
			select {
			case <-next:
			case <-ctx.Done():
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

func (v *storageMoves) carry(ctx context.Context, act cluster.MoveStorage) error {
	wanted, end := v.wanted(ctx, act)
	defer end()
	from, to := v.home(act.From, act.Folder), v.home(act.To, act.Folder)
	settings, err := vm.Load(from)
	if err != nil {
		return err
	}
	mc := v.m.agent.machine(act.Group)
	if mc != nil {
		settings = mc.Settings()
	}
	home, err := vm.NewHome(settings, from, to, act.Move, mc != nil)
	if err != nil {
		return err
	}
	home.Bandwidth = int64(act.Bandwidth)
	home.Copied = func(n int64) { v.copiedIs(act.Group, func(c *copied) { c.done += n }) }
	if err := home.Make(wanted, mc != nil); err != nil {
		return because(wanted, err)
	}
	if mc == nil {
		if err := home.Settle(); err != nil {
			return err
		}
		return v.commit(ctx, act)
	}
	err = v.mirror(wanted, act, mc, to)
	if err == nil {
		err = home.Settle()
	}
	switch {
	case err == nil:
	case mc.Gone():
		return errors.New("its process ended")
	default:
		return errors.Join(because(wanted, err), v.endMirror(ctx, mc, act.Move, ""))
	}
	return v.goOver(ctx, act, mc, to)
}

// because is why a context ended, where that is why something failed.
func because(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

func (v *storageMoves) home(volume, folder string) string {
	return filepath.Join(v.m.n.opt.StorageDir, volume, folder)
}

// mirror copies a running machine's disks until both sides are equal.
func (v *storageMoves) mirror(ctx context.Context, act cluster.MoveStorage, mc *vm.Machine, to string) error {
	if err := mc.Mirror(ctx, to, act.Move, int64(act.Bandwidth)); err != nil {
		return err
	}
	tick := time.NewTicker(storageInterval)
	defer tick.Stop()
	for {
		done, total, equal, err := mc.Mirrored(ctx)
		if err != nil || equal {
			return err
		}
		v.copiedIs(act.Group, func(c *copied) { c.done, c.total = done, total })
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// goOver has a running machine live on the other volume: its disks are held, the
// database is told, and then the machine.
func (v *storageMoves) goOver(ctx context.Context, act cluster.MoveStorage, mc *vm.Machine, to string) error {
	v.hold(act.Group, true)
	defer v.hold(act.Group, false)
	err := mc.HoldMirror(ctx)
	if err == nil {
		err = v.commit(ctx, act)
	}
	switch {
	case err == nil:
		return v.endMirror(ctx, mc, act.Move, to)
	case ctx.Err() != nil:
		return err // it is not known what holds
	}
	return errors.Join(err, v.endMirror(ctx, mc, act.Move, ""))
}

func (v *storageMoves) hold(name string, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if on {
		v.holding[name] = true
	} else {
		delete(v.holding, name)
	}
}

// commit has the machine live on the other volume. It proposes until it is known whether
// that holds: an error other than that of ctx says that it does not.
func (v *storageMoves) commit(ctx context.Context, act cluster.MoveStorage) error {
	cmd := &pb.Command{Kind: &pb.Command_StorageMoveSwitch{StorageMoveSwitch: &pb.StorageMoveSwitch{Group: act.Group, Id: act.Move, Epoch: act.Epoch}}}
	_, err := v.m.propose(ctx, cmd)
	for err != nil && !refused(err) && ctx.Err() == nil {
		v.m.log.Warn("not known yet whether the machine lives on the other volume", zap.String("machine", act.Group), zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(switchRetry):
		}
		_, err = v.m.proposeAgain(ctx, cmd)
	}
	if refused(err) {
		return v.switched(ctx, act, err)
	}
	return err
}

// switched finds out whether a switch that was refused had been committed before.
func (v *storageMoves) switched(ctx context.Context, act cluster.MoveStorage, refusal error) error {
	for {
		g, err := v.m.groupNow(ctx, act.Group)
		switch {
		case err == nil && g.StorageMove.GetId() == act.Move && g.StorageMove.Moved:
			return nil
		case err == nil:
			return refusal
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(switchRetry):
		}
	}
}

// endMirror has a machine go on. One that cannot is ended, and started again where it
// lives.
func (v *storageMoves) endMirror(ctx context.Context, mc *vm.Machine, move uint64, lives string) error {
	err := mc.EndMirror(ctx, move, lives)
	switch {
	case mc.Gone():
		return nil // it starts where it lives
	case !errors.Is(err, vm.ErrSplit):
		return err
	}
	v.m.moves.tellEvent(cluster.Error, "storage-move-split", mc.Name(), fmt.Sprintf("%s was ended and starts again, since not all of its disks went over: %v", mc.Name(), err))
	return mc.Kill(ctx)
}

// settle tells a machine's process on this node how its last move between volumes ended,
// where a clusterd of before may not have. It returns whether something of that move is
// left on the other volume, and nil with an error.
func (v *storageMoves) settle(ctx context.Context, name string) (*pb.StorageMove, error) {
	left := false
	v.m.db.view(func(s *pb.State) { left = cluster.StorageLeft(s.Groups[name]) })
	if !left {
		return nil, nil // a move that is over for this replica is over
	}
	g, err := v.m.groupNow(ctx, name)
	if err != nil {
		return nil, err
	}
	mv := g.StorageMove
	if !cluster.StorageLeft(g) || g.Owner != v.m.id.NodeID {
		return nil, nil
	}
	if mc := v.m.agent.machine(name); mc != nil {
		lives := ""
		if mv.Moved {
			lives = v.home(g.Volume, g.Folder)
		}
		v.hold(name, true)
		defer v.hold(name, false)
		if err := v.endMirror(ctx, mc, mv.Id, lives); err != nil {
			return nil, err
		}
	}
	return mv, nil
}

// clean ends what a move has left: in the machine's process, and on the volume that the
// machine does not live on.
func (v *storageMoves) clean(ctx context.Context, act cluster.CleanStorage) error {
	mv, err := v.settle(ctx, act.Group)
	if err != nil || mv.GetId() != act.Move {
		return err
	}
	if !act.Reached {
		return fmt.Errorf("files of %s are left on %s, and are removed when this node reaches it", act.Group, act.Volume)
	}
	if err := vm.RemoveHome(v.home(act.Volume, act.Folder), act.Move); err != nil {
		return err
	}
	_, err = v.m.propose(ctx, cluster.StorageEnded(act.Group, act.Move))
	return err
}
