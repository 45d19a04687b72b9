package disk

import "context"

// OpKind names an operation of a LUN.
type OpKind string

// The operations that a Faulty asks its hook about.
const (
	OpRead         OpKind = "read"
	OpWrite        OpKind = "write"
	OpFlush        OpKind = "flush"
	OpReservations OpKind = "reservations"
	OpReserve      OpKind = "reserve"
	OpReset        OpKind = "reset"
	OpCapabilities OpKind = "capabilities"
	OpRescan       OpKind = "rescan"
)

// Op is an operation on its way through a Faulty.
type Op struct {
	Kind OpKind
	// Done is false before the operation reaches the LUN, and true after
	// the LUN has carried it out without error: an error returned then is a
	// lost answer, whose effect is there.
	Done bool
	// Off and Len are in bytes, for reads and writes.
	Off int64
	Len int
	// Reserve is the command of an OpReserve.
	Reserve ReserveOut
	// Context is the caller's, for hooks that wait.
	Context context.Context
}

// Faulty is a LUN whose operations can fail or wait, for tests.
type Faulty struct {
	lun  LUN
	hook func(Op) error
}

var _ LUN = (*Faulty)(nil)

// NewFaulty wraps lun. The hook is called before each operation, which is not
// carried out when it returns an error, and once more after it; what it returns
// is what the caller gets. It may block, and may be called by several
// goroutines at once.
func NewFaulty(lun LUN, hook func(op Op) error) *Faulty { return &Faulty{lun: lun, hook: hook} }

func (f *Faulty) around(ctx context.Context, op Op, do func() error) error {
	op.Context = ctx
	if err := f.hook(op); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	op.Done = true
	return f.hook(op)
}

// Info is the LUN's.
func (f *Faulty) Info() Info { return f.lun.Info() }

// ReadAt asks the hook about an OpRead.
func (f *Faulty) ReadAt(ctx context.Context, p []byte, off int64) error {
	return f.around(ctx, Op{Kind: OpRead, Off: off, Len: len(p)}, func() error { return f.lun.ReadAt(ctx, p, off) })
}

// WriteAt asks the hook about an OpWrite.
func (f *Faulty) WriteAt(ctx context.Context, p []byte, off int64) error {
	return f.around(ctx, Op{Kind: OpWrite, Off: off, Len: len(p)}, func() error { return f.lun.WriteAt(ctx, p, off) })
}

// Flush asks the hook about an OpFlush.
func (f *Faulty) Flush(ctx context.Context) error {
	return f.around(ctx, Op{Kind: OpFlush}, func() error { return f.lun.Flush(ctx) })
}

// Reservations asks the hook about an OpReservations.
func (f *Faulty) Reservations(ctx context.Context) (r Reservations, err error) {
	err = f.around(ctx, Op{Kind: OpReservations}, func() (e error) { r, e = f.lun.Reservations(ctx); return e })
	if err != nil {
		return Reservations{}, err
	}
	return r, nil
}

// Reserve asks the hook about an OpReserve.
func (f *Faulty) Reserve(ctx context.Context, r ReserveOut) error {
	return f.around(ctx, Op{Kind: OpReserve, Reserve: r}, func() error { return f.lun.Reserve(ctx, r) })
}

// ResetUnit asks the hook about an OpReset.
func (f *Faulty) ResetUnit(ctx context.Context) error {
	return f.around(ctx, Op{Kind: OpReset}, func() error { return f.lun.ResetUnit(ctx) })
}

// Capabilities asks the hook about an OpCapabilities.
func (f *Faulty) Capabilities(ctx context.Context) (c Capabilities, err error) {
	err = f.around(ctx, Op{Kind: OpCapabilities}, func() (e error) { c, e = f.lun.Capabilities(ctx); return e })
	if err != nil {
		return Capabilities{}, err
	}
	return c, nil
}

// Session is the LUN's, where it has any.
func (f *Faulty) Session() uint64 { return sessionOf(f.lun) }

// Close closes the LUN.
func (f *Faulty) Close() error { return f.lun.Close() }
