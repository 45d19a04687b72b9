// Command migration measures live migration through the agents beside plain QEMU
// to QEMU, over a unix socket and over TCP, of the same guest in the same run:
// total time, pause, and their ratios.
//
// Both QEMUs run on this machine. Without KVM, a QEMU before 9.0 loses what a
// running guest changes while it is copied (qmp.Version.LosesChanges), so the
// agents pause it for that time, and the plain moves here do the same. With
// -trust neither does, to measure what a sound QEMU would take; the guest then
// often does not survive, and is started anew.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"quorate/test/lab/guest"
)

func main() {
	rounds := flag.Int("rounds", 5, "moves of each kind")
	memory := flag.Int64("memory", 512, "the guest's memory in MiB")
	dirty := flag.Int("dirty", 50, "MiB that the guest changes each second")
	hot := flag.Int("hot", 16, "MiB among which it changes them")
	trust := flag.Bool("trust", false, "let the guest run while it is copied, even where QEMU loses changes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, *rounds, *memory, *trust, guest.Options{DirtyMiB: *dirty, HotMiB: *hot})
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// move is one way to move a machine from one host to the other.
type move struct {
	name string
	do   func(ctx context.Context, b *bench) (figures, error)
}

// figures are what one move took.
type figures struct {
	total, pause time.Duration
	bytes        int64
}

// run moves the guest back and forth in turn, so that all kinds see the same
// machine in the same mood.
func run(ctx context.Context, rounds int, memory int64, trust bool, o guest.Options) error {
	b, err := newBench(ctx, memory, o)
	if err != nil {
		return err
	}
	defer b.close()
	moves := []move{
		{"QEMU, unix socket", plain(trust, func(b *bench) string { return "unix:" + b.machine.RelayPath() })},
		{"QEMU, TCP", plain(trust, freePort)},
		{"agents, TLS", agents(trust)},
	}
	fmt.Printf("guest of %d MiB that changes %d MiB/s in %d MiB; %d moves of each kind; %s\n", memory, o.DirtyMiB, o.HotMiB, rounds, b.accel)
	all := make([][]figures, len(moves))
	before := "start"
	for range rounds {
		for i, m := range moves {
			if err := b.alive(ctx, before); err != nil {
				return err
			}
			before = m.name
			f, err := m.do(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			all[i] = append(all[i], f)
		}
	}
	print(moves, all)
	return nil
}

// print shows medians, and their ratio to the first way.
func print(moves []move, all [][]figures) {
	fmt.Printf("%-20s %12s %8s %12s %8s %12s %10s\n", "", "total", "ratio", "pause", "ratio", "worst pause", "MiB")
	var base figures
	for i, m := range moves {
		f := median(all[i])
		if i == 0 {
			base = f
		}
		worst := slices.MaxFunc(all[i], func(a, b figures) int { return int(a.pause - b.pause) })
		fmt.Printf("%-20s %12v %8.2f %12v %8.2f %12v %10d\n", m.name, f.total.Round(time.Millisecond), ratio(f.total, base.total),
			f.pause.Round(time.Millisecond), ratio(f.pause, base.pause), worst.pause.Round(time.Millisecond), f.bytes>>20)
	}
}

func ratio(a, b time.Duration) float64 { return float64(a) / float64(max(b, 1)) }

// median takes each figure by itself.
func median(fs []figures) figures {
	mid := func(get func(figures) int64) int64 {
		vs := make([]int64, 0, len(fs))
		for _, f := range fs {
			vs = append(vs, get(f))
		}
		slices.Sort(vs)
		return vs[len(vs)/2]
	}
	return figures{
		total: time.Duration(mid(func(f figures) int64 { return int64(f.total) })),
		pause: time.Duration(mid(func(f figures) int64 { return int64(f.pause) })),
		bytes: mid(func(f figures) int64 { return f.bytes }),
	}
}
