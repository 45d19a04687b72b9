// Command migration measures live migration through the agents beside plain QEMU
// to QEMU over TCP, bare and with QEMU's own TLS, of the same guest in the same run:
// total time, pause, processor time, and their ratios.
//
// The guests are a table: of several sizes, at rest, and changing memory slower and
// faster than the limited link carries; each on the loopback as it is and limited to
// 1 Gbit/s, in network namespaces of the bench's own, for which it must be root. The
// pause is told by the mover, and shown by the guest: it ticks each millisecond, and
// what is counted is how long nothing arrived outside.
//
// Both QEMUs run on this machine. Without KVM, a QEMU before 9.0 loses what a
// running guest changes while it is copied (qmp.Version.LosesChanges), so the
// agents pause it for that time, and the plain moves here do the same. With
// -trust neither does, to measure what a sound QEMU would take; the guest then
// often does not survive, and is started anew. libvirt is not measured yet.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"quorate/migration"
	"quorate/test/lab/guest"

	"golang.org/x/sys/unix"
)

// limited is the slower link, in bits a second.
const limited = 1_000_000_000

func main() {
	rounds := flag.Int("rounds", 2, "moves of each kind")
	sizes := flag.String("sizes", "1,4", "the guests' memory in GiB; 12 takes 24 GiB here")
	trust := flag.Bool("trust", false, "let the guest run while it is copied, even where QEMU loses changes")
	inside := flag.Int64("inside", -1, "for itself: measure here, over a loopback of so many bits a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := func() error {
		if *inside < 0 {
			if err := within(ctx, 0); err != nil {
				return err
			}
			return within(ctx, limited)
		}
		if err := raise(uint64(*inside)); err != nil {
			return err
		}
		return matrix(ctx, *rounds, strings.Split(*sizes, ","), *trust, *inside)
	}()
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

// figures are what one move took: pause as its mover tells it, shown as the guest's
// ticks do, cpu of both QEMUs but for the guest itself, and of this process.
type figures struct {
	total, pause, shown, cpu time.Duration
	bytes                    int64
}

// loads are how the guests change their memory, beside a link of 119 MiB/s.
var loads = []struct {
	name         string
	dirtyMiB     int
	hotMiB, fill int // the second in hundredths of the memory
}{
	{"at rest", 0, 0, 60},
	{"dirty 50 MiB/s", 50, 32, 60},
	{"dirty 400 MiB/s", 400, 32, 60},
}

// matrix measures all guests over one link.
func matrix(ctx context.Context, rounds int, sizes []string, trust bool, bits int64) error {
	link := "unlimited link"
	if bits > 0 {
		link = fmt.Sprintf("link of %d Mbit/s", bits/1_000_000)
	}
	for _, size := range sizes {
		gib, err := strconv.Atoi(size)
		if err != nil {
			return fmt.Errorf("-sizes: %w", err)
		}
		if free, err := available(); err != nil || free < int64(2*gib)<<30 {
			fmt.Printf("\nguests of %d GiB are left out: two processes take up to %d GiB, and %d MiB are free (%v)\n", gib, 2*gib, free>>20, err)
			continue
		}
		for _, l := range loads {
			o := guest.Options{DirtyMiB: l.dirtyMiB, HotMiB: l.hotMiB, FillMiB: gib << 10 * l.fill / 100, Pulse: true}
			if err := run(ctx, rounds, int64(gib)<<10, trust, o, fmt.Sprintf("%s, %d GiB, %s", link, gib, l.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// available is how much memory can be taken.
func available() (int64, error) {
	var s unix.Sysinfo_t
	if err := unix.Sysinfo(&s); err != nil {
		return 0, err
	}
	return int64(s.Freeram+s.Bufferram) * int64(s.Unit), nil
}

// run moves one guest back and forth in turn, so that all kinds see the same
// machine in the same mood.
func run(ctx context.Context, rounds int, memory int64, trust bool, o guest.Options, title string) error {
	b, err := newBench(ctx, memory, o)
	if err != nil {
		return err
	}
	defer b.close()
	moves := []move{
		{"QEMU, TCP", plain(trust, false)},
		{"QEMU, its TLS", plain(trust, true)},
		{"agents", agents(trust, migration.Carriage{})},
		{"agents, zstd", agents(trust, migration.Carriage{Streams: 1, Compress: true})},
	}
	fmt.Printf("\n%s; %d moves of each kind; %s\n", title, rounds, b.accel)
	all := make([][]figures, len(moves))
	before := "start"
	for range rounds {
		for i, m := range moves {
			if err := b.alive(ctx, before); err != nil {
				return err
			}
			before = m.name
			f, err := b.measured(ctx, m)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			all[i] = append(all[i], f)
		}
	}
	print(moves, all)
	return nil
}
