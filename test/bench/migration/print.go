package main

import (
	"fmt"
	"slices"
	"time"
)

// print shows medians, and their ratio to the first way.
func print(moves []move, all [][]figures) {
	fmt.Printf("%-14s %8s %6s %8s %6s %8s %8s %7s\n", "", "total", "ratio", "cpu", "ratio", "pause", "shown", "MiB")
	var base figures
	for i, m := range moves {
		f := median(all[i])
		if i == 0 {
			base = f
		}
		fmt.Printf("%-14s %8s %6.2f %8s %6.2f %8s %8s %7d\n", m.name, seconds(f.total), ratio(f.total, base.total),
			seconds(f.cpu), ratio(f.cpu, base.cpu), seconds(f.pause), seconds(f.shown), f.bytes>>20)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }

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
	duration := func(get func(figures) time.Duration) time.Duration {
		return time.Duration(mid(func(f figures) int64 { return int64(get(f)) }))
	}
	return figures{
		total: duration(func(f figures) time.Duration { return f.total }),
		pause: duration(func(f figures) time.Duration { return f.pause }),
		shown: duration(func(f figures) time.Duration { return f.shown }),
		cpu:   duration(func(f figures) time.Duration { return f.cpu }),
		bytes: mid(func(f figures) int64 { return f.bytes }),
	}
}
