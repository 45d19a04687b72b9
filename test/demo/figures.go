package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// failover is how long each step took from the power cut on.
type failover struct {
	// detect: until the node was declared dead. arbitrate is the part of it until
	// the witness had changed hosts, 0 where it needed not.
	detect, arbitrate time.Duration
	// fence: until it was certain that the node can neither write nor run
	// machines. place: until the machine had a new owner. start: until its process
	// ran.
	fence, place, start time.Duration
}

func (f failover) total() time.Duration { return f.detect + f.fence + f.place + f.start }

// event is what the demo reads of `clusterctl events -o json`.
type event struct {
	AtMs    int64  `json:"at_ms"`
	Kind    string `json:"kind"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
}

// breakDown finds the failover's steps in the events after the cut. The nodes of
// the lab and the demo share one clock.
func breakDown(cut time.Time, lines []byte) (failover, error) {
	var f failover
	last, next := cut, 0
	steps := []struct {
		kind, subject, ends string
		took                *time.Duration
	}{
		{"node-down", second, "", &f.detect},
		{"node-fenced", second, "", &f.fence},
		{"group-moved", machine, "", &f.place},
		{"group-state", machine, " is online on " + first, &f.start},
	}
	for dec := json.NewDecoder(bytes.NewReader(lines)); next < len(steps); {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return failover{}, fmt.Errorf("the events do not tell of %s of %s after the power cut", steps[next].kind, steps[next].subject)
		} else if err != nil {
			return failover{}, fmt.Errorf("read the events: %w", err)
		}
		at := time.UnixMilli(e.AtMs)
		if at.Before(cut.Truncate(time.Millisecond)) {
			continue
		}
		if e.Kind == "witness-hosted" && e.Subject == first && next == 0 {
			f.arbitrate = at.Sub(cut)
		}
		if s := steps[next]; e.Kind == s.kind && e.Subject == s.subject && strings.HasSuffix(e.Text, s.ends) {
			*s.took = at.Sub(last)
			last = at
			next++
		}
	}
	return f, nil
}

func ms(d time.Duration) string { return fmt.Sprintf("%5d ms", d.Milliseconds()) }

// figures prints what was measured.
func (d *demo) figures(m moved, f failover, w writes) {
	arbitrate := "no time: " + first + " hosted the witness already"
	if f.arbitrate > 0 {
		arbitrate = "done " + strings.TrimSpace(ms(f.arbitrate)) + " after the cut, while detecting"
	}
	d.title("Figures")
	fmt.Fprintf(d.out, `
Live migration        %s in all, paused for %s
Power cut to process started again
                      %s in all
    detect            %s   %s was silent on every way
    arbitrate         %s
    fence             %s   its key removed from the volume, its lease over
    place             %s   a new owner chosen and committed
    start             %s   until QEMU ran on %s
Acknowledged writes   %d, the last is number %d, over %d starts; lost: none
`, m.total, m.pause, ms(f.total()), ms(f.detect), second, arbitrate, ms(f.fence), ms(f.place), ms(f.start), first, w.acknowledged, w.last, w.starts)
	fmt.Fprint(d.out, `
About the pause: without KVM, QEMU 7.2 loses memory that a running guest changes
while it is copied (docs/found-bugs.md). So here the agents hold the machine still
for the whole copy. With KVM, or QEMU 9.0 and later, it runs on while it is copied
and is paused only for what is left at the end.
`)
}
