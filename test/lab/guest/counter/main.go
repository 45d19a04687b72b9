// Command counter is what the lab's guest does: every 20 ms it writes the next
// number to its disk, and once that is durable says so on the console. Whoever
// kept the console's output can therefore tell which writes were acknowledged.
//
// It uses the standard library alone, since it is compiled on its own for the
// guest's image. See package guest for the layout on the disk.
package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	slotSize = 4096
	slots    = 4096
	magic    = "QUORATE1"
	interval = 20 * time.Millisecond
)

// record is one slot's content; layout and checksum as package guest reads it.
type record struct {
	seq    uint64
	boot   [8]byte
	uptime uint64 // nanoseconds
}

func (r record) encode(p []byte) uint32 {
	clear(p)
	copy(p, magic)
	binary.LittleEndian.PutUint64(p[8:], r.seq)
	copy(p[16:24], r.boot[:])
	binary.LittleEndian.PutUint64(p[24:], r.uptime)
	sum := crc32.ChecksumIEEE(p[:32])
	binary.LittleEndian.PutUint32(p[32:], sum)
	return sum
}

// decode returns ok for a sound record, and blank for a slot never written.
func decode(p []byte) (r record, ok, blank bool) {
	blank = true
	for _, b := range p[:36] {
		if b != 0 {
			blank = false
			break
		}
	}
	if string(p[:8]) != magic || crc32.ChecksumIEEE(p[:32]) != binary.LittleEndian.Uint32(p[32:]) {
		return record{}, false, blank
	}
	r.seq = binary.LittleEndian.Uint64(p[8:])
	copy(r.boot[:], p[16:24])
	r.uptime = binary.LittleEndian.Uint64(p[24:])
	return r, true, false
}

// verify reads the whole region and says what is wrong with it.
func verify(f *os.File, buf []byte) (last uint64, n int, bad string) {
	seqs := make([]uint64, slots)
	for i := range slots {
		if _, err := f.ReadAt(buf, int64(i)*slotSize); err != nil {
			return 0, 0, fmt.Sprintf("slot %d: %v", i, err)
		}
		r, ok, blank := decode(buf)
		if blank {
			continue
		}
		if !ok || r.seq%slots != uint64(i) {
			return 0, 0, fmt.Sprintf("slot %d holds no record of its own", i)
		}
		seqs[i], last = r.seq, max(last, r.seq)
		n++
	}
	for i, seq := range seqs {
		if want := newest(last, uint64(i)); seq != want {
			return last, n, fmt.Sprintf("slot %d holds %d and not %d", i, seq, want)
		}
	}
	return last, n, ""
}

// newest is the greatest number up to last that belongs into a slot, or 0.
func newest(last, slot uint64) uint64 {
	back := (last + slots - slot) % slots
	if back >= last {
		return 0
	}
	return last - back
}

func main() {
	disk := "/dev/vda2"
	if len(os.Args) > 1 {
		disk = os.Args[1]
	}
	f, err := os.OpenFile(disk, os.O_RDWR|syscall.O_DIRECT|syscall.O_SYNC, 0)
	if err != nil {
		fmt.Println("verify bad", err)
		os.Exit(1)
	}
	buf := aligned(slotSize)
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	boot := hex.EncodeToString(id[:])
	last, n, bad := verify(f, buf)
	fmt.Printf("boot %s last %d\n", boot, last)
	if bad != "" {
		fmt.Println("verify bad", bad)
		os.Exit(1)
	}
	fmt.Printf("verify ok %d\n", n)
	go dirty()
	filled := fill(option("quorate.fill"))
	defer runtime.KeepAlive(filled)
	if option("quorate.pulse") > 0 {
		go pulse()
	}
	started := time.Now()
	tick := time.NewTicker(interval)
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	for seq := last + 1; ; seq++ {
		r := record{seq: seq, boot: id, uptime: uint64(time.Since(started))}
		sum := r.encode(buf)
		if _, err := f.WriteAt(buf, int64(seq%slots)*slotSize); err != nil {
			fmt.Printf("write bad %d %v\n", seq, err)
			os.Exit(1)
		}
		fmt.Printf("tick %s %d %08x\n", boot, seq, sum)
		select {
		case <-tick.C:
		case <-stop: // between two writes, so that none is cut off
			return
		}
	}
}

// aligned returns n bytes that O_DIRECT accepts.
func aligned(n int) []byte {
	p := make([]byte, n+4096)
	off := int(-uintptr(unsafe.Pointer(&p[0])) & 4095)
	return p[off : off+n : off+n]
}

// dirty changes quorate.dirty=<MiB/s> of a hot set of quorate.hot=<MiB>
// (kernel command line), so that a migration has something to do.
func dirty() {
	rate, hot := option("quorate.dirty"), option("quorate.hot")
	if hot == 0 {
		return
	}
	const page, step = 4096, 20 * time.Millisecond
	set := make([]byte, hot<<20)
	var seed uint64 = 88172645463325252
	for i := 0; i < len(set); i += 8 { // noise, that zero pages do not flatter
		seed ^= seed << 13
		seed ^= seed >> 7
		seed ^= seed << 17
		binary.LittleEndian.PutUint64(set[i:], seed)
	}
	fmt.Printf("dirty %d MiB/s in %d MiB\n", rate, hot)
	perStep := rate << 20 / page / int(time.Second/step)
	at := 0
	for range time.Tick(step) {
		for range perStep {
			binary.LittleEndian.PutUint64(set[at:], binary.LittleEndian.Uint64(set[at:])+1)
			at = (at + page) % len(set)
		}
	}
}

// fill takes so much memory and writes lines that differ into it.
func fill(mib int) []byte {
	set := make([]byte, mib<<20)
	line := []byte("2026-01-01T00:00:00Z web01 request 0000000000000000 took 12 ms\n\n")
	for i, n := 0, uint64(0); i+len(line) <= len(set); i, n = i+len(line), n+1 {
		copy(set[i:], line)
		for d, v := 0, n*2654435761; d < 8; d, v = d+1, v>>4 {
			set[i+35+d] = "0123456789abcdef"[v&15]
		}
	}
	return set
}

// pulse writes an empty line each millisecond. A line is one write, which the
// terminal keeps together.
func pulse() {
	for range time.Tick(time.Millisecond) {
		_, _ = os.Stdout.WriteString("\n") // nobody to complain to
	}
}

// option reads a number off the kernel's command line; 0 if it is not there.
func option(name string) int {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return 0
	}
	for _, word := range strings.Fields(string(line)) {
		if v, ok := strings.CutPrefix(word, name+"="); ok {
			n, _ := strconv.Atoi(v) // nonsense counts as 0
			return n
		}
	}
	return 0
}
