package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"quorate/disk"
)

// fileSize is what a node reads and writes, in bytes.
const fileSize = 256 << 20

// load is one kind of load.
type load struct {
	Name   string
	Write  bool
	Random bool
	Block  int
	Depth  int
	// Grow writes a new file, which gets its space meanwhile; the bare LUN where nobody has
	// written before.
	Grow bool
}

var loads = []load{
	{Name: "read-1M-1", Block: 1 << 20, Depth: 1},
	{Name: "read-1M-32", Block: 1 << 20, Depth: 32},
	{Name: "write-1M-1", Write: true, Block: 1 << 20, Depth: 1},
	{Name: "write-1M-32", Write: true, Block: 1 << 20, Depth: 32},
	{Name: "grow-1M-1", Write: true, Block: 1 << 20, Depth: 1, Grow: true},
	{Name: "grow-1M-32", Write: true, Block: 1 << 20, Depth: 32, Grow: true},
	{Name: "read-4k-1", Random: true, Block: 4 << 10, Depth: 1},
	{Name: "read-4k-32", Random: true, Block: 4 << 10, Depth: 32},
	{Name: "write-4k-1", Random: true, Write: true, Block: 4 << 10, Depth: 1},
	{Name: "write-4k-32", Random: true, Write: true, Block: 4 << 10, Depth: 32},
}

// growLimit is how large a new file may get; who is faster is done before the time.
const growLimit = 1 << 30

// fio loads a file and returns bytes per second.
func fio(ctx context.Context, l load, path string, each time.Duration) (float64, error) {
	rw := map[bool]string{false: "read", true: "write"}[l.Write]
	mode := rw
	if l.Random {
		mode = "rand" + rw
	}
	args := []string{
		"--name=x", "--filename=" + path, "--rw=" + mode, "--bs=" + strconv.Itoa(l.Block), "--iodepth=" + strconv.Itoa(l.Depth),
		"--direct=1", "--ioengine=libaio", "--thread", "--randrepeat=0", "--norandommap", "--fallocate=none", "--invalidate=0",
		"--runtime=" + strconv.FormatInt(each.Milliseconds(), 10) + "ms", "--output-format=json",
	}
	if l.Grow {
		args = append(args, "--size="+strconv.Itoa(growLimit))
	} else {
		args = append(args, "--size="+strconv.Itoa(fileSize), "--time_based")
	}
	out, err := exec.CommandContext(ctx, "fio", args...).Output()
	if err != nil {
		return 0, fmt.Errorf("fio %v: %w: %s", args, err, out)
	}
	type side struct {
		Rate float64 `json:"bw_bytes"`
	}
	var said struct {
		Jobs []struct{ Read, Write side }
	}
	if err := json.Unmarshal(out, &said); err != nil || len(said.Jobs) != 1 {
		return 0, fmt.Errorf("fio said %q: %w", out, err)
	}
	return said.Jobs[0].Read.Rate + said.Jobs[0].Write.Rate, nil
}

// bare loads a device from a byte on as fio does a file, and returns how much it read or
// wrote, in bytes.
func bare(ctx context.Context, l load, d disk.Device, from int64, each time.Duration) (rate float64, done int64, err error) {
	var (
		mu   sync.Mutex
		next int64
		wg   sync.WaitGroup
	)
	blocks := int64(fileSize / l.Block)
	if l.Grow {
		blocks = int64(growLimit / l.Block)
	}
	do := d.ReadAt
	if l.Write {
		do = d.WriteAt
	}
	start := time.Now()
	for range l.Depth {
		wg.Go(func() {
			p := make([]byte, l.Block)
			for time.Since(start) < each {
				mu.Lock()
				at := next % blocks
				over := l.Grow && next >= blocks
				next++
				mu.Unlock()
				if over {
					return
				}
				if l.Random {
					at = rand.Int64N(blocks)
				}
				e := do(ctx, p, from+at*int64(l.Block))
				mu.Lock()
				done += int64(l.Block)
				err = errors.Join(err, e)
				mu.Unlock()
				if e != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(done) / time.Since(start).Seconds(), done, err
}
