package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"quorate/test/lab"
	"quorate/test/lab/box"
)

// demo is one run.
type demo struct {
	out      io.Writer
	lab      *lab.Lab
	image    string // of the machine, on this host, which the nodes see too
	begin    time.Time
	consoles *consoles
}

// title begins a part.
func (d *demo) title(text string) {
	fmt.Fprintf(d.out, "\n== %s  [%.0f s]\n", text, time.Since(d.begin).Seconds())
}

// say prints a remark of the demo's own.
func (d *demo) say(format string, a ...any) { fmt.Fprintf(d.out, "   "+format+"\n", a...) }

// typed prints a command as it would be typed at a prompt.
func (d *demo) typed(host string, argv ...string) {
	fmt.Fprintf(d.out, "\n%s# %s\n", host, strings.Join(argv, " "))
}

// ctl types a clusterctl command on s1, prints what it answered, and returns
// what it printed to its standard output. Another exit status than 0 is an error.
func (d *demo) ctl(ctx context.Context, args ...string) (string, error) {
	return d.ctlOn(ctx, first, args...)
}

// ctlOn is ctl on any machine of the lab.
func (d *demo) ctlOn(ctx context.Context, host string, args ...string) (string, error) {
	argv := append([]string{"clusterctl"}, args...)
	d.typed(host, argv...)
	var text bytes.Buffer
	both := io.MultiWriter(d.out, &text)
	code, err := d.lab.Exec(ctx, host, argv, box.Stdio{Out: both, Err: d.out})
	if err == nil && code != 0 {
		err = fmt.Errorf("`%s` on %s ended with status %d", strings.Join(argv, " "), host, code)
	}
	return text.String(), err
}

// ask runs a clusterctl command on s1 without showing it. Its error has what the
// command complained of.
func (d *demo) ask(ctx context.Context, args ...string) ([]byte, error) {
	return d.askOn(ctx, first, args...)
}

// askOn is ask on any node.
func (d *demo) askOn(ctx context.Context, node string, args ...string) ([]byte, error) {
	var out, complaint bytes.Buffer
	argv := append([]string{"clusterctl"}, args...)
	code, err := d.lab.Exec(ctx, node, argv, box.Stdio{Out: &out, Err: &complaint})
	if err == nil && code != 0 {
		err = fmt.Errorf("`%s` on %s ended with status %d: %s", strings.Join(argv, " "), node, code, strings.TrimSpace(complaint.String()))
	}
	return out.Bytes(), err
}

// ready waits until clusterd answers on every node: a lab is up when its daemons
// were started.
func (d *demo) ready(ctx context.Context) error {
	for _, node := range d.lab.Nodes() {
		err := until(ctx, readyLimit, "clusterd answers on "+node, func(ctx context.Context) (string, error) {
			if _, err := d.askOn(ctx, node, "node", "show"); err != nil {
				return err.Error(), nil
			}
			return "", nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// pollInterval is how often a condition is looked at.
const pollInterval = 100 * time.Millisecond

// until waits for a condition, which returns "" when it holds and else what
// stands against it.
func until(ctx context.Context, limit time.Duration, what string, holds func(context.Context) (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var last string
	for {
		against, err := holds(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
		if err == nil && against == "" {
			return nil
		}
		if err == nil {
			last = against
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v at most until %s; at last %s: %w", limit, what, last, ctx.Err())
		case <-poll.C:
		}
	}
}
