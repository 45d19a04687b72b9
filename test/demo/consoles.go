package main

import (
	"bytes"
	"context"
	"sync"

	"quorate/test/lab"
	"quorate/test/lab/box"
	"quorate/test/lab/guest"
)

// consoleLog is where a node keeps what its machine wrote to the serial console.
const consoleLog = "/run/quorate/machines/" + machine + "/console.log"

// consoles follows what the machine says on each node. What a node's machine said
// is kept when the node dies.
type consoles struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu struct {
		sync.Mutex
		said map[string]*bytes.Buffer // by node
	}
}

// follow begins to follow the consoles on all nodes.
func follow(l *lab.Lab) *consoles {
	ctx, cancel := context.WithCancel(context.Background())
	c := &consoles{cancel: cancel}
	c.mu.said = map[string]*bytes.Buffer{}
	for _, node := range l.Nodes() {
		c.mu.said[node] = &bytes.Buffer{}
		c.done.Go(func() {
			// It waits for the file, and ends with the node or with ctx: nothing is
			// to be done about either.
			_, _ = l.Exec(ctx, node, []string{"tail", "-s", "0.1", "-c", "+1", "-F", consoleLog}, box.Stdio{Out: saying{c, node}})
		})
	}
	return c
}

// stop ends the following. What was said stays.
func (c *consoles) stop() {
	c.cancel()
	c.done.Wait()
}

// saying takes in what is said on a node.
type saying struct {
	c    *consoles
	node string
}

func (s saying) Write(p []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.c.mu.said[s.node].Write(p)
}

// on reads the console of a node so far.
func (c *consoles) on(node string) (guest.Console, error) {
	c.mu.Lock()
	text := bytes.Clone(c.mu.said[node].Bytes())
	c.mu.Unlock()
	return guest.ParseConsole(bytes.NewReader(text))
}

// all reads the consoles of all nodes so far, merged.
func (c *consoles) all() (guest.Console, error) {
	var parts []guest.Console
	for node := range c.mu.said { // the map's keys never change
		part, err := c.on(node)
		if err != nil {
			return guest.Console{}, err
		}
		parts = append(parts, part)
	}
	return guest.Merge(parts...), nil
}
