package stage

import (
	"bytes"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// pulseEvery is how often the consoles are looked at: a pause is known to about that,
// and to the 20 ms between two writes.
const pulseEvery = 5 * time.Millisecond

// Pulse tells by the host's clock for how long the machine acknowledged no write.
type Pulse struct {
	s *Stage

	mu      sync.Mutex
	last    time.Time
	longest time.Duration
}

// Pulse begins to follow the machine; it ends with the test.
func (s *Stage) Pulse() *Pulse {
	p := &Pulse{s: s, last: time.Now()}
	stop := make(chan struct{})
	s.wg.Go(func() {
		read := map[string]int64{}
		for {
			select {
			case <-stop:
				return
			case <-time.After(pulseEvery):
				p.look(read)
			}
		}
	})
	s.t.Cleanup(func() { close(stop) })
	return p
}

// look reads what the consoles have that was not read before.
func (p *Pulse) look(read map[string]int64) {
	p.s.mu.Lock()
	files := slices.Clone(p.s.consoles)
	p.s.mu.Unlock()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			continue // a node that is being switched on has none yet
		}
		more, err := io.ReadAll(io.NewSectionReader(f, read[name], 1<<20))
		_ = f.Close()
		if err != nil {
			continue
		}
		read[name] += int64(len(more))
		if bytes.Contains(more, []byte("tick ")) {
			p.beat(time.Now())
		}
	}
}

func (p *Pulse) beat(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = max(p.longest, now.Sub(p.last))
	p.last = now
}

// Longest is the longest pause since it was asked for last.
func (p *Pulse) Longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := max(p.longest, time.Since(p.last))
	p.longest = 0
	return d
}
