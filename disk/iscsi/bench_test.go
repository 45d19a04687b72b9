//go:build cgo

package iscsi

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"quorate/disk"
	"quorate/test/lab/tgt"
)

func benchLUN(b *testing.B) disk.LUN {
	b.Helper()
	if err := tgt.Missing(); err != nil {
		b.Skip(err)
	}
	_, o := startTarget(b)
	l, err := Open(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	if err := l.WriteAt(context.Background(), make([]byte, 64<<20), 0); err != nil {
		b.Fatal(err)
	}
	return l
}

func benchParallel(b *testing.B, depth, size int, op func(ctx context.Context, p []byte, off int64) error) {
	b.SetBytes(int64(size))
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	for range depth {
		wg.Go(func() {
			p := make([]byte, size)
			for left.Add(-1) >= 0 {
				off := rand.Int64N(int64((64<<20)/size)) * int64(size)
				if err := op(context.Background(), p, off); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkRead4KDepth32(b *testing.B) { benchParallel(b, 32, 4096, benchLUN(b).ReadAt) }
func BenchmarkRead1MDepth4(b *testing.B)  { benchParallel(b, 4, 1<<20, benchLUN(b).ReadAt) }
func BenchmarkWrite4KDepth32(b *testing.B) {
	benchParallel(b, 32, 4096, benchLUN(b).WriteAt)
}
func BenchmarkWrite1MDepth4(b *testing.B) { benchParallel(b, 4, 1<<20, benchLUN(b).WriteAt) }

// BenchmarkWriteFlush4K is what the witness does: one write, made durable.
func BenchmarkWriteFlush4K(b *testing.B) {
	l := benchLUN(b)
	benchParallel(b, 1, 4096, func(ctx context.Context, p []byte, off int64) error {
		if err := l.WriteAt(ctx, p, off); err != nil {
			return err
		}
		return l.Flush(ctx)
	})
}
