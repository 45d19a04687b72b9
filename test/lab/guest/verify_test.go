package guest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"testing"
)

// put writes number seq of start boot into a region, as the counter does, and
// returns its line on the console.
func put(region []byte, boot string, seq uint64) string {
	slot := region[seq%slots*slotSize:]
	copy(slot, magic)
	binary.LittleEndian.PutUint64(slot[8:], seq)
	copy(slot[16:24], boot)
	sum := crc32.ChecksumIEEE(slot[:32])
	binary.LittleEndian.PutUint32(slot[32:], sum)
	return fmt.Sprintf("tick %x %d %08x\r\n", boot, seq, sum)
}

// fill writes the numbers of [from, to].
func fill(region []byte, boot string, from, to uint64) string {
	var b strings.Builder
	for seq := from; seq <= to; seq++ {
		b.WriteString(put(region, boot, seq))
	}
	return b.String()
}

func parse(t *testing.T, s string) Console {
	t.Helper()
	c, err := ParseConsole(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNothingLost(t *testing.T) {
	region := make([]byte, regionSize)
	out := "boot 6161616161616161 last 0\r\nverify ok 0\r\n" + fill(region, "aaaaaaaa", 1, slots+10)
	out += "boot 6262626262626262 last 4106\r\nverify ok 4096\r\n" + fill(region, "bbbbbbbb", slots+11, slots+20) + "tick 62626262626"
	c, r := parse(t, out), verify(region)
	if lost := Lost(c, r); len(lost) != 0 {
		t.Errorf("faults: %q", lost)
	}
	if r.Last != slots+20 || c.Last() != slots+20 || r.Records != slots || len(r.Boots) != 2 {
		t.Errorf("report %d %d %v, console %d", r.Last, r.Records, r.Boots, c.Last())
	}
	if len(c.Boots) != 2 || c.Boots[1].Last != 4106 || c.Boots[1].Verified != "ok 4096" {
		t.Errorf("boots %+v", c.Boots)
	}
}

func TestLossIsFound(t *testing.T) {
	whole := make([]byte, regionSize)
	out := fill(whole, "aaaaaaaa", 1, 100)
	for name, spoil := range map[string]func(region []byte){
		"the last write": func(r []byte) { clear(r[100*slotSize : 101*slotSize]) },
		"one between":    func(r []byte) { clear(r[50*slotSize : 51*slotSize]) },
		"a torn one":     func(r []byte) { r[50*slotSize+9]++ },
		"another's":      func(r []byte) { put(r, "bbbbbbbb", 50) },
		"an older state": func(r []byte) { clear(r[60*slotSize:]) },
	} {
		region := append([]byte(nil), whole...)
		spoil(region)
		if len(Lost(parse(t, out), verify(region))) == 0 {
			t.Errorf("the loss of %s was not seen", name)
		}
	}
}

func TestBehind(t *testing.T) {
	region := make([]byte, regionSize)
	said := fill(region, "aaaaaaaa", 1, slots+10)
	fill(region, "aaaaaaaa", slots+11, slots+20) // written since the console was read
	behind := func(region []byte) int {
		lost, err := Behind(parse(t, said), region)
		if err != nil {
			t.Fatal(err)
		}
		return len(lost)
	}
	if n := behind(region); n != 0 {
		t.Errorf("%d faults", n)
	}
	for name, spoil := range map[string]func(region []byte){
		"an older number": func(r []byte) { put(r, "aaaaaaaa", 5) },
		"a torn one":      func(r []byte) { r[50*slotSize+9]++ },
		"a blank one":     func(r []byte) { clear(r[60*slotSize : 61*slotSize]) },
		"another's":       func(r []byte) { put(r, "bbbbbbbb", 70) },
	} {
		spoiled := append([]byte(nil), region...)
		spoil(spoiled)
		if n := behind(spoiled); n != 1 {
			t.Errorf("%s: %d faults", name, n)
		}
	}
	if _, err := Behind(Console{}, region[:100]); err == nil {
		t.Error("a part of a region was taken for one")
	}
}

func TestTwoThatRunAreFound(t *testing.T) {
	region := make([]byte, regionSize)
	first := fill(region, "aaaaaaaa", 1, 50)
	second := fill(region, "aaaaaaaa", 51, 60)
	third := fill(region, "aaaaaaaa", 61, 70)
	if c := Merge(parse(t, first+third), parse(t, second)); len(Lost(c, verify(region))) != 0 || c.Last() != 70 {
		t.Errorf("there and back: %q", c.Faults)
	}
	if c := Merge(parse(t, first+second), parse(t, second+third)); len(c.Faults) != 10 {
		t.Errorf("ten numbers were acknowledged twice: %q", c.Faults)
	}
}

func TestConsoleFaults(t *testing.T) {
	for _, line := range []string{
		"boot 6161616161616161 last 3\nverify bad slot 2 holds 1 and not 2",
		"write bad 5 input/output error",
		"[    3.1] Oops: 0000 [#1] SMP",
		"tick 6161616161616161 5 00000000\ntick 6161616161616161 4 00000000",
	} {
		if c := parse(t, line+"\n"); len(c.Faults) != 1 {
			t.Errorf("%q: faults %q", line, c.Faults)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	err := Options{DirtyMiB: -1, HotMiB: -1}.Validate()
	if err == nil || (Options{DirtyMiB: 5}).Validate() == nil || (Options{DirtyMiB: 5, HotMiB: 5}).Validate() != nil {
		t.Errorf("got %v", err)
	}
}
