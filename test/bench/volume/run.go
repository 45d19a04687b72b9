package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

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
		{Number: lunVolume, Name: "V", Size: 8 << 30, ID: "51000001", Serial: "V0001"},
		{Number: lunBare, Name: "B", Size: fileSize, ID: "51000002", Serial: "B0001"},
		{Number: lunQEMU, Name: "Q", Size: fileSize, ID: "51000003", Serial: "Q0001"},
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Stop()) }()
	b := &bench{dir: dir, profiles: o.profiles, rates: map[string][]float64{}}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.start(ctx, t.File(lunQEMU)); err != nil {
		return err
	}
	chosen := slices.DeleteFunc(slices.Clone(loads), func(l load) bool { return o.only != "" && l.Name != o.only })
	for range o.rounds {
		for _, l := range chosen {
			for _, w := range b.ways {
				r, err := w.do(ctx, l, o.each)
				if errors.Is(err, errNot) {
					continue
				}
				if err != nil {
					return fmt.Errorf("%s, %s: %w", w.name, l.Name, err)
				}
				b.rates[l.Name+w.name] = append(b.rates[l.Name+w.name], r)
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
	ways          []way
	missing       []string // why a way is not there
	rates         map[string][]float64
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
	const bareName = "bare LUN"
	b.ways = []way{
		{bareName, alone.ask},
		mounted("volume", true, path("n1")),
		mounted("volume, two nodes", true, path("n1"), path("n2")),
		qemu(iscsi.URL("127.0.0.1:3260", iqn, lunQEMU), func(l load) float64 { return median(b.rates[l.Name+bareName]) }),
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
// each its ratio to the bare LUN.
func (b *bench) print(chosen []load) {
	fmt.Printf("volumes over tgt on the loopback network; MiB/s of 1 MiB, thousands of I/O each second of 4 KiB; (ratio to the bare LUN)\n%-12s", "")
	for _, w := range b.ways {
		fmt.Printf(" %20s", w.name)
	}
	fmt.Println()
	for _, l := range chosen {
		unit := float64(1 << 20)
		if l.Random {
			unit = float64(l.Block) * 1000
		}
		fmt.Printf("%-12s", l.Name)
		base := median(b.rates[l.Name+b.ways[0].name])
		for _, w := range b.ways {
			r := b.rates[l.Name+w.name]
			if len(r) == 0 {
				fmt.Printf(" %20s", "-")
				continue
			}
			fmt.Printf(" %12.1f  (%.2f)", median(r)/unit, median(r)/base)
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
