// Command cover judges how much of each package is covered by several runs of its
// tests: it puts profiles of `go test -coverprofile` together, prints for each package
// the part of its statements that any of them ran, and fails where one is below the
// bound. With -missing it also names the lines that none did.
//
// It is used by `make cover`.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

func main() {
	bound := flag.Float64("bound", 90, "the least part of a package's statements, in percent")
	missing := flag.Bool("missing", false, "name what is not covered")
	flag.Parse()
	blocks := map[string]block{}
	for _, name := range flag.Args() {
		if err := read(name, blocks); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(2)
		}
	}
	packages := map[string]*total{}
	for where, b := range blocks {
		file, _, _ := strings.Cut(where, ":")
		p := packages[path.Dir(file)]
		if p == nil {
			p = &total{}
			packages[path.Dir(file)] = p
		}
		p.all += b.statements
		if b.ran {
			p.ran += b.statements
		} else {
			p.missing = append(p.missing, where)
		}
	}
	if len(packages) == 0 {
		fmt.Fprintln(os.Stderr, "no profile names a package")
		os.Exit(2)
	}
	low := false
	for _, name := range slices.Sorted(maps.Keys(packages)) {
		p := packages[name]
		fmt.Printf("%6.1f %%  %5d of %5d statements  %s\n", p.percent(), p.ran, p.all, name)
		if *missing {
			slices.Sort(p.missing)
			fmt.Println("          " + strings.Join(p.missing, "\n          "))
		}
		low = low || p.percent() < *bound
	}
	if low {
		fmt.Fprintf(os.Stderr, "a package is below %.0f %%\n", *bound)
		os.Exit(1)
	}
}

// block is a stretch of code without a branch.
type block struct {
	statements int
	ran        bool
}

// total is of a package.
type total struct {
	all, ran int
	missing  []string
}

func (t *total) percent() float64 { return 100 * float64(t.ran) / float64(max(t.all, 1)) }

// read takes a profile in. A line of it is file:from,to statements runs.
func read(name string, into map[string]block) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "mode:") {
			continue
		}
		fields := strings.Fields(lines.Text())
		if len(fields) != 3 {
			return fmt.Errorf("%q is no line of a profile", lines.Text())
		}
		n, err := strconv.Atoi(fields[1])
		if err != nil {
			return err
		}
		b := into[fields[0]]
		into[fields[0]] = block{statements: n, ran: b.ran || fields[2] != "0"}
	}
	return lines.Err()
}
