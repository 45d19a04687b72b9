// Command run simulates clusters: one seed as a story, a fixed set of seeds, or
// fresh ones until so many hours have been simulated. On a violation it prints the
// seed, the shortest run that shows it, and that run's story, and exits 1.
//
// It is used by `make sim` and `make sim-soak`.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"time"

	"quorate/test/sim"
)

// fixed is how many seeds, from 1 on, are run where nothing else is said.
const fixed = 40

func main() {
	seed := flag.Uint64("seed", 0, "simulate this seed alone, and tell the story")
	from := flag.Uint64("from", 1, "the first of several seeds")
	count := flag.Int("count", fixed, "how many seeds")
	hours := flag.Float64("hours", 0, "simulate fresh seeds for so many simulated hours, on all processors")
	length := flag.Duration("length", sim.DefaultLength, "simulated time of each run")
	shrink := flag.Duration("shrink", time.Minute, "for how long a shorter run is looked for")
	jobs := flag.Int("jobs", runtime.NumCPU(), "processes at once")
	skip := flag.String("skip", "", "numbers of faults to leave out, by commas")
	theme := flag.String("theme", "", "theme of all storms: "+strings.Join(sim.Themes(), ", "))
	nodes := flag.Int("nodes", 0, "how many nodes, 0 for a number by the seed")
	groups := flag.Int("groups", 0, "how many machines, 0 for a number by the seed")
	sites := flag.Int("sites", 0, "in how many sites the nodes are, 0 for a number by the seed")
	lost := flag.String("lost-site", "", "instead of all faults: the power of this site, a, b or so on, fails at a third of the run and is back at two")
	until := flag.Duration("until", 0, "end the run early")
	profile := flag.String("profile", "", "write a profile of the processor's time to this file")
	flag.Parse()
	written := profiled(*profile)
	// Much is made and dropped, and little kept but of large clusters.
	debug.SetGCPercent(4000)
	debug.SetMemoryLimit(1 << 30)
	opt := sim.Options{Seed: *seed, Length: *length, Theme: *theme, Nodes: *nodes, Groups: *groups, Sites: *sites, LostSite: *lost, Until: *until, Skip: map[int]bool{}}
	for _, f := range strings.FieldsFunc(*skip, func(r rune) bool { return r == ',' }) {
		n, err := strconv.Atoi(f)
		if err != nil {
			fmt.Fprintln(os.Stderr, "-skip:", err)
			os.Exit(2)
		}
		opt.Skip[n] = true
	}
	var ok bool
	switch {
	case *seed != 0:
		opt.Story = true
		r := sim.Run(opt)
		fmt.Print(r.Text())
		say(r, 0)
		ok = r.Violation == nil
	case *hours > 0:
		ok = soak(*hours, *jobs, *length)
	default:
		ok = seeds(*from, *count, opt, *shrink)
	}
	written()
	if !ok {
		os.Exit(1)
	}
}

// profiled begins a profile of the processor's time, where a file is named, and returns
// what ends it.
func profiled(path string) func() {
	if path == "" {
		return func() {}
	}
	f, err := os.Create(path)
	if err == nil {
		err = pprof.StartCPUProfile(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "-profile:", err)
		os.Exit(2)
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "-profile:", err)
		}
	}
}

func say(r sim.Result, took time.Duration) {
	fmt.Printf("seed %d: %v simulated in %v, %d faults, %+v, hash %016x\n", r.Seed, r.Simulated.Round(time.Second), took.Round(time.Millisecond), r.Faults, r.Done, r.Hash)
	if r.Violation != nil {
		fmt.Printf("seed %d VIOLATES %v\n", r.Seed, r.Violation)
	}
}

// seeds runs one after the other and stops at the first violation.
func seeds(from uint64, count int, opt sim.Options, shrink time.Duration) bool {
	began, simulated := time.Now(), time.Duration(0)
	for i := range count {
		opt.Seed = from + uint64(i)
		at := time.Now()
		r := sim.Run(opt)
		simulated += r.Simulated
		say(r, time.Since(at))
		if r.Violation != nil {
			o, short := sim.Shrink(opt, r, shrink)
			fmt.Print(short.Text())
			say(short, 0)
			var left []string
			for i := range short.Faults {
				if o.Skip[i] {
					left = append(left, strconv.Itoa(i))
				}
			}
			fmt.Printf("again: go run ./test/sim/run -seed %d -length %v -until %v -skip %s\n", o.Seed, o.Length, o.Until, strings.Join(left, ","))
			return false
		}
	}
	rate(simulated, time.Since(began))
	return true
}

func rate(simulated, took time.Duration) {
	fmt.Printf("%.1f hours simulated in %v: %.2f simulated hours per real minute\n", simulated.Hours(), took.Round(time.Second), simulated.Hours()/took.Minutes())
}

// perProcess is how many seeds one process runs before another takes over.
const perProcess = 20

// soak runs fresh seeds in processes of their own, for raft has one random source in
// a process. It goes on after a violation, and says so in the end.
func soak(hours float64, jobs int, length time.Duration) bool {
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return false
	}
	need := int(hours*float64(time.Hour)/float64(length)/perProcess) + 1
	first := uint64(time.Now().UnixMilli()) * 1000
	began := time.Now()
	work := make(chan uint64)
	var mu sync.Mutex
	failed, done := 0, 0
	var wg sync.WaitGroup
	for range jobs {
		wg.Go(func() {
			for from := range work {
				out, err := exec.Command(self, "-from", strconv.FormatUint(from, 10), "-count", strconv.Itoa(perProcess), "-length", length.String()).CombinedOutput()
				mu.Lock()
				done++
				var exit *exec.ExitError
				if err != nil {
					failed++
					fmt.Printf("%s", out)
					if !errors.As(err, &exit) {
						fmt.Println(err)
					}
				}
				fmt.Printf("%d of %d batches, %d with a violation; ", done, need, failed)
				rate(time.Duration(done*perProcess)*length, time.Since(began))
				mu.Unlock()
			}
		})
	}
	for i := range need {
		work <- first + uint64(i*perProcess)
	}
	close(work)
	wg.Wait()
	return failed == 0
}
