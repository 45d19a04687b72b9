package coordinator

import (
	"quorate/csv/csvpb"
	"quorate/csv/volume"
)

// byOrigin marks keys of results that are kept by what the kernel asked for; ids of
// requests are below it.
const byOrigin = 1 << 63

// maxOrigins is how many results are kept by origin for a session. The kernel waits for
// an answer to what it asked; of what was answered, a process that took over may be
// asked again only for what its predecessor was about to write back when it was killed.
const maxOrigins = 4096

// resultKey is by what a request's result is kept.
func resultKey(m *csvpb.Request) uint64 {
	if m.Origin != 0 {
		return m.Origin | byOrigin
	}
	return m.Id &^ byOrigin
}

// remember notes a result, and forgets the oldest by origin where there are too many.
func (s *session) remember(c *Coordinator, key uint64) {
	if key&byOrigin == 0 {
		return
	}
	s.origins = append(s.origins, key)
	if len(s.origins) > maxOrigins {
		c.v.ForgetOne(s.incarnation, s.origins[0])
		s.origins = s.origins[1:]
	}
}

// takeUp finds what an earlier coordinator kept for a session.
func (s *session) takeUp(v *volume.Volume) {
	s.origins = v.Results(s.incarnation, byOrigin, maxOrigins)
}
