package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate/disk/iscsi"
	"quorate/test/lab/tgt"
)

const iqn = "iqn.2026-11.test.quorate:bench"

// LUNs of the target: one for the volume, and two that bear nothing, of which ours is
// reserved against strangers.
const (
	lunVolume = 1
	lunBare   = 2
	lunQEMU   = 3
)

// run measures, and says what it saw.
func run(ctx context.Context, o options) (err error) {
	if err := settle(ctx); err != nil {
		return err
	}
	dir := os.Getenv(dirEnv)
	t, err := tgt.Start(ctx, tgt.Options{Dir: dir, Portal: "127.0.0.1:3260", IQN: iqn, LUNs: []tgt.LUN{
		{Number: lunVolume, Name: "V", Size: 32 << 30, ID: "51000001", Serial: "V0001"},
		{Number: lunBare, Name: "B", Size: 32 << 30, ID: "51000002", Serial: "B0001"},
		{Number: lunQEMU, Name: "Q", Size: fileSize, ID: "51000003", Serial: "Q0001"},
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	b := &bench{dir: dir, profiles: o.profiles, bare: map[string][]float64{}, rates: map[string][]float64{}, ratios: map[string][]float64{}, costs: map[string][]float64{}}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(ctx, t.File(lunQEMU)); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(loads), func(l load) bool { return o.only != "" && !slices.Contains(strings.Split(o.only, ","), l.Name) })
	for range o.rounds {
		for _, l := range chosen {
			for _, w := range b.ways {
				if err := b.pair(ctx, l, w, o.each); err != nil {
					return err
				}
			}
		}
	}
	b.print(chosen)
	return nil
}

// bench is what takes turns.
type bench struct {
	dir, profiles string
	nodes         []*process
	alone         way // the bare LUN
	ways          []way
	missing       []string             // why a way is not there
	bare          map[string][]float64 // bytes per second of the bare LUN, by load
	rates, ratios map[string][]float64 // of a way, by load and way
	costs         map[string][]float64 // times the processor time of the bare LUN for the same, by load and way
}

// pair measures the bare LUN and right after it a way.
func (b *bench) pair(ctx context.Context, l load, w way, each time.Duration) error {
	base, baseCost, err := measured(ctx, l, b.alone, each)
	if err != nil {
		return err
	}
	b.bare[l.Name] = append(b.bare[l.Name], base)
	rate, cost, err := measured(ctx, l, w, each)
	if errors.Is(err, errNot) {
		return nil
	}
	if err != nil {
		return err
	}
	key := l.Name + w.name
	b.rates[key], b.ratios[key] = append(b.rates[key], rate), append(b.ratios[key], rate/base)
	b.costs[key] = append(b.costs[key], cost/baseCost)
	return nil
}

// measured is the rate of a way, in bytes per second, and what it costs: the processor time
// that all processes of the bench took, in seconds for each byte.
func measured(ctx context.Context, l load, w way, each time.Duration) (rate, cost float64, err error) {
	before := busy()
	if rate, err = w.do(ctx, l, each); err != nil && !errors.Is(err, errNot) {
		err = fmt.Errorf("%s, %s: %w", w.name, l.Name, err)
	}
	return rate, (busy() - before - w.begins).Seconds() / (rate * each.Seconds()), err
}

// busy is for how long all processes of the namespace have had a processor, those
// included that they have waited for.
func busy() time.Duration {
	const ticks = 100 // of a second, in /proc (USER_HZ)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	sum := 0
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		_, after, _ := strings.Cut(string(b), ") ") // a name may hold anything but that
		fields := strings.Fields(after)
		if len(fields) < 15 {
			continue
		}
		for _, f := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.Atoi(f)
			sum += n
		}
	}
	return time.Duration(sum) * time.Second / ticks
}

// start brings up all nodes and the others' ways. blank is the file of QEMU's LUN.
func (b *bench) start(ctx context.Context, blank string) error {
	v, raw := iscsi.URL("127.0.0.1:3260", iqn, lunVolume), iscsi.URL("127.0.0.1:3260", iqn, lunBare)
	path := func(name string) string { return filepath.Join(b.dir, name) }
	var alone *process
	for i, args := range [][]string{
		{"-kind", kindBare, "-url", raw},
		{"-kind", kindCoordinator, "-url", v, "-path", path("n1"), "-sock", path("sock")},
		{"-kind", kindMember, "-url", v, "-path", path("n2"), "-sock", path("sock")},
		{"-kind", kindNull, "-path", path("null")},
	} {
		if b.profiles != "" {
			args = append(args, "-profile", filepath.Join(b.profiles, args[1]+".pprof"))
		}
		p, err := startNode(append(args, "-id", strconv.Itoa(i+1))...)
		if err != nil {
			return err
		}
		b.nodes = append(b.nodes, p)
		if i == 0 {
			alone = p
		}
	}
	if err := errors.Join(fill(blank), fill(file(path("n1"), 0), file(path("n2"), 1))); err != nil {
		return err
	}
	b.alone = way{name: "bare LUN", do: alone.ask}
	b.ways = []way{
		mounted("volume", true, path("n1")),
		mounted("volume, two nodes", true, path("n1"), path("n2")),
		qemu(iscsi.URL("127.0.0.1:3260", iqn, lunQEMU), func(l load) float64 { return median(b.bare[l.Name]) }),
	}
	if dir, err := gluster(ctx, b.dir); err != nil {
		b.missing = append(b.missing, "GlusterFS is not measured: "+err.Error())
	} else {
		if err := fill(file(dir, 0)); err != nil {
			return err
		}
		b.ways = append(b.ways, mounted("GlusterFS", true, dir))
	}
	b.ways = append(b.ways, mounted("FUSE with nothing", false, path("null")))
	before := busy() // what fio takes to begin
	if _, err := fio(ctx, loads[0], file(path("null"), 0), time.Millisecond); err != nil {
		return err
	}
	begins := busy() - before
	for i, w := range b.ways {
		b.ways[i].begins = begins * time.Duration(w.files)
	}
	return nil
}

func (b *bench) stop() error {
	var errs []error
	for _, p := range slices.Backward(b.nodes) {
		errs = append(errs, p.stop())
	}
	return errors.Join(errs...)
}

// print shows medians: MiB/s of large blocks, I/O per second of small ones, and beside
// each the median of its ratios to the bare LUN, and how many times the processor time of
// the bare LUN it took.
func (b *bench) print(chosen []load) {
	fmt.Printf("volumes over tgt on the loopback network; MiB/s of 1 MiB, thousands of I/O each second of 4 KiB; (ratio to the bare LUN; times its processor time)\n%-12s %10s", "", b.alone.name)
	for _, w := range b.ways {
		fmt.Printf(" %21s", w.name)
	}
	fmt.Println()
	for _, l := range chosen {
		unit := float64(1 << 20)
		if l.Random {
			unit = float64(l.Block) * 1000
		}
		fmt.Printf("%-12s %10.1f", l.Name, median(b.bare[l.Name])/unit)
		for _, w := range b.ways {
			key := l.Name + w.name
			if len(b.rates[key]) == 0 {
				fmt.Printf(" %21s", "-")
				continue
			}
			fmt.Printf(" %8.1f (%.2f;%5.2f)", median(b.rates[key])/unit, median(b.ratios[key]), median(b.costs[key]))
		}
		fmt.Println()
	}
	for _, m := range b.missing {
		fmt.Println(m)
	}
}

func median(rs []float64) float64 {
	if len(rs) == 0 {
		return 0
	}
	rs = slices.Sorted(slices.Values(rs))
	return (rs[len(rs)/2] + rs[(len(rs)-1)/2]) / 2
}
