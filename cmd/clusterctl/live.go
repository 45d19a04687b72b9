package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// lineInterval is how often a line of progress is printed where lines cannot be
// written over.
const lineInterval = time.Second

// live is one line that changes: on a terminal in place, elsewhere as plain
// lines, when the topic changes and from time to time.
type live struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	topic    string
	last     time.Time
	shown    bool
}

func (a *app) live(w io.Writer) *live {
	_, is := terminal(w)
	return &live{w: w, terminal: is, now: a.now}
}

// say shows the text.
func (l *live) say(topic, text string) {
	text = strings.TrimRight(clean(text), " ")
	if l.terminal {
		fmt.Fprintf(l.w, "\r\x1b[K%s", text)
		l.shown = true
		return
	}
	if now := l.now(); topic != l.topic || now.Sub(l.last) >= lineInterval {
		l.topic, l.last = topic, now
		fmt.Fprintln(l.w, text)
	}
}

// clear removes the line from a terminal.
func (l *live) clear() {
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}
