// Command demo does the main job for real on this one machine, as an
// administrator would: it raises a lab of two nodes and a SAN, makes a cluster
// with a witness, puts a machine on a shared volume, moves it to the other node
// while it runs, cuts that node's power, and shows that the machine runs again
// and that none of its acknowledged writes was lost.
//
// It is run by `make demo`, as root, with the programs of cmd in its own folder.
// Every command is printed as it would be typed, with what it answered, and
// checked. When a step fails, the demo says what went wrong, shows the ends of
// the daemons' logs and exits with 1. The lab is taken down at the end, on
// failure and on an interrupt too.
//
// Traps: its lab has a folder of its own, and one that an earlier run left there
// is taken down first. A node's console logs are in memory and die with the node,
// so they are followed from the machine's start on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

const (
	// demoLimit bounds the whole demo, downloads apart.
	demoLimit = 8 * time.Minute
	// logLines is how much of each daemon's log a failure shows.
	logLines = 15
)

func main() {
	box.MaybeInit()
	dir := flag.String("dir", "/var/tmp/quorate-demo", "folder of the demo's lab")
	cache := flag.String("guest-cache", "", "folder that keeps the machine's image (default: the user's cache)")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Stdout, *dir, *cache)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run makes the machine's image, raises the lab, does the demo in it, and takes
// it down again whatever happened.
func run(ctx context.Context, out io.Writer, dir, cache string) error {
	o := lab.Options{Dir: dir}
	o.EnsureDefaults()
	if err := errors.Join(o.Validate(), lab.Missing(o)); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(o.Bin, "clusterctl")); err != nil {
		return fmt.Errorf("clusterctl is not in %s: `make demo` builds all that is needed", o.Bin)
	}
	fmt.Fprintln(out, "Preparing the machine's image: Debian's cloud kernel, busybox and a counter (downloaded once).")
	img, err := guest.Build(ctx, guest.Options{Dir: cache})
	if err != nil {
		return err
	}
	if err := lab.Down(o.Dir); err != nil {
		return fmt.Errorf("take down what an earlier demo left in %s: %w", o.Dir, err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, demoLimit, fmt.Errorf("the demo was given up after %v", demoLimit))
	defer cancel()
	d := &demo{out: out, image: img.Path, begin: begin}
	err = d.inLab(ctx, o)
	switch {
	case err == nil:
	case errors.Is(ctx.Err(), context.Canceled):
		err = errors.New("interrupted")
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if err == nil {
		fmt.Fprintf(out, "\nAll of it took %.0f s, and the lab is gone.\n", time.Since(begin).Seconds())
	}
	return err
}

// inLab raises the lab, runs the steps and takes the lab down.
func (d *demo) inLab(ctx context.Context, o lab.Options) (err error) {
	d.title("Two servers and a SAN, in namespaces of this machine")
	d.typed("lab", "clusterlab", "up")
	d.lab, err = lab.Up(ctx, o)
	if err != nil {
		return err
	}
	d.consoles = follow(d.lab)
	defer func() {
		d.consoles.stop()
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			d.showLogs()
		}
		if down := d.lab.Down(); down != nil {
			err = errors.Join(err, fmt.Errorf("take the lab down: %w", down))
		}
	}()
	if err := d.ready(ctx); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "The lab is up: nodes %s, SAN at %s.\n", strings.Join(d.lab.Nodes(), ", "), lab.Portal)
	return d.steps(ctx)
}

// showLogs prints the ends of the daemons' logs.
func (d *demo) showLogs() {
	for _, node := range d.lab.Nodes() {
		for _, daemon := range []string{"clusterd", "noded"} {
			var all strings.Builder
			if err := d.lab.Logs(node, &all, daemon); err != nil {
				fmt.Fprintf(d.out, "\nThe log of %s on %s cannot be read: %v\n", daemon, node, err)
				continue
			}
			lines := strings.Split(strings.TrimSpace(all.String()), "\n")
			lines = lines[max(0, len(lines)-logLines):]
			fmt.Fprintf(d.out, "\nThe end of %s's log on %s:\n  %s\n", daemon, node, strings.Join(lines, "\n  "))
		}
	}
}
