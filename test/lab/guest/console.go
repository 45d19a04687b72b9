package guest

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Tick is one acknowledged write.
type Tick struct {
	// Boot tells one start of the guest from another: it changes when the
	// guest boots and stays when it is moved.
	Boot string
	// Seq is the number, Sum the checksum of its record.
	Seq uint64
	Sum uint32
}

// Boot is one start of the guest.
type Boot struct {
	// ID is what its ticks carry.
	ID string
	// Last is the number that it found on the disk.
	Last uint64
	// Verified is what it found there: "ok 4096", or "bad" and why.
	Verified string
}

// Console is what a guest said.
type Console struct {
	Ticks []Tick
	Boots []Boot
	// Faults are complaints of the guest, kernel oopses among them, and
	// numbers that were acknowledged twice, as they would be if the guest ran
	// in two places.
	Faults []string
}

// Last is the last number that was acknowledged, 0 if none was.
func (c Console) Last() uint64 {
	if len(c.Ticks) == 0 {
		return 0
	}
	return c.Ticks[len(c.Ticks)-1].Seq
}

// ParseConsole reads the output of a guest's serial console. Lines that are cut
// off or not the counter's are passed over, so numbers may be missing. Read the
// logs of several nodes one by one, and Merge them.
func ParseConsole(r io.Reader) (Console, error) {
	var c Console
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			return c, nil // what is left was cut off
		}
		if err != nil {
			return c, fmt.Errorf("guest: reading the console: %w", err)
		}
		c.take(strings.TrimSpace(line))
	}
}

// take reads one line.
func (c *Console) take(line string) {
	f := strings.Fields(line)
	switch {
	case len(f) == 4 && f[0] == "tick":
		seq, err := strconv.ParseUint(f[2], 10, 64)
		sum, err2 := strconv.ParseUint(f[3], 16, 32)
		if err != nil || err2 != nil || len(f[1]) != 16 || len(f[3]) != 8 {
			return
		}
		c.tick(Tick{Boot: f[1], Seq: seq, Sum: uint32(sum)})
	case len(f) == 4 && f[0] == "boot" && f[2] == "last":
		last, err := strconv.ParseUint(f[3], 10, 64)
		if err == nil {
			c.Boots = append(c.Boots, Boot{ID: f[1], Last: last})
		}
	case len(f) >= 2 && f[0] == "verify" && len(c.Boots) > 0:
		c.Boots[len(c.Boots)-1].Verified = strings.Join(f[1:], " ")
		if f[1] != "ok" {
			c.Faults = append(c.Faults, line)
		}
	case strings.HasPrefix(line, "write bad"), strings.Contains(line, "Oops:"), strings.Contains(line, "Kernel panic"),
		strings.Contains(line, "BUG:"), strings.Contains(line, "I/O error"):
		c.Faults = append(c.Faults, line)
	}
}

// tick takes a number; on one console they only grow.
func (c *Console) tick(t Tick) {
	if last := c.Last(); t.Seq <= last {
		c.Faults = append(c.Faults, fmt.Sprintf("number %d was acknowledged after %d", t.Seq, last))
	}
	c.Ticks = append(c.Ticks, t)
}

// Merge puts together what a guest said on several nodes, in the order of its
// numbers, and complains of numbers that were acknowledged twice.
func Merge(consoles ...Console) Console {
	var all Console
	for _, c := range consoles {
		all.Ticks = append(all.Ticks, c.Ticks...)
		all.Boots = append(all.Boots, c.Boots...)
		all.Faults = append(all.Faults, c.Faults...)
	}
	slices.SortStableFunc(all.Ticks, func(a, b Tick) int { return cmp.Compare(a.Seq, b.Seq) })
	slices.SortStableFunc(all.Boots, func(a, b Boot) int { return cmp.Compare(a.Last, b.Last) })
	for i := 1; i < len(all.Ticks); i++ {
		if a, b := all.Ticks[i-1], all.Ticks[i]; a.Seq == b.Seq {
			all.Faults = append(all.Faults, fmt.Sprintf("number %d was acknowledged twice, by starts %s and %s", a.Seq, a.Boot, b.Boot))
		}
	}
	return all
}
