package migration

import (
	"errors"
	"fmt"
	"strings"
)

// MaxStreams is the most that a machine's memory is carried over; more gain nothing.
const MaxStreams = 16

// Carriage is how a machine's memory goes over. It is agreed on before the first
// byte and is the same on both ends.
type Carriage struct {
	// Streams carry memory beside QEMU's main channel (its multifd-channels); with
	// 0 all goes over the main channel.
	Streams int
	// Compress has QEMU compress what the streams carry (its multifd-compression
	// zstd). It takes at least one stream.
	Compress bool
}

// String is the carriage in messages.
func (c Carriage) String() string {
	text := "one stream"
	if c.Streams > 1 {
		text = fmt.Sprintf("%d streams", c.Streams)
	}
	if c.Compress {
		text += ", compressed"
	}
	return text
}

// Validate lists what no QEMU can do.
func (c Carriage) Validate() error {
	var faults []error
	if c.Streams < 0 || c.Streams > MaxStreams {
		faults = append(faults, fmt.Errorf("migration: %d streams; at most %d are of use", c.Streams, MaxStreams))
	}
	if c.Compress && c.Streams == 0 {
		faults = append(faults, errors.New("migration: memory is compressed in streams, of which there are none"))
	}
	return errors.Join(faults...)
}

// Compression is what an administrator wants of it.
type Compression string

// The words for Compression.
const (
	CompressAuto Compression = "auto"
	CompressOn   Compression = "on"
	CompressOff  Compression = "off"
)

// ParseCompression reads one; the empty word is CompressAuto.
func ParseCompression(s string) (Compression, error) {
	switch c := Compression(s); c {
	case "":
		return CompressAuto, nil
	case CompressAuto, CompressOn, CompressOff:
		return c, nil
	}
	return "", fmt.Errorf("%q is no word for compression: choose auto, on or off", s)
}

// Measured is what was found out of a path and of its two nodes. Rates are bytes a
// second; what is not known is 0.
type Measured struct {
	// Link is what the path carries, encrypted as memory will be.
	Link int64
	// IdleHere and IdleThere are how many processors do nothing, on the source and
	// on the target.
	IdleHere, IdleThere float64
	// Limit is the bandwidth that the administrator allows.
	Limit int64
}

// What Choose goes by.
const (
	// zstdRate is what one processor compresses in a second at the least (level 1).
	// It must be ahead of the link by zstdLead to be worth its time.
	zstdRate = 200 << 20
	zstdLead = 1.3
	// oneStream is what one stream carries, encrypted, before its processor is
	// the limit; a machine of less than manyMiB is over too soon for more.
	oneStream = 400 << 20
	manyMiB   = 2048
)

// Choose decides how a machine of so much memory is carried. streams 0 leaves their
// number to it. why says what the choice rests on, for the operator.
func Choose(streams int, want Compression, memoryMiB int64, m Measured) (c Carriage, why string) {
	rate := m.Link
	if m.Limit > 0 && (rate == 0 || m.Limit < rate) {
		rate = m.Limit
	}
	idle := min(m.IdleHere, m.IdleThere)
	var said []string
	c.Streams = streams
	if streams == 0 {
		switch {
		case memoryMiB < manyMiB:
			said = append(said, "one stream for little memory")
		case rate > 0 && rate < oneStream:
			said = append(said, fmt.Sprintf("one stream fills what %d MiB/s carry", rate>>20))
		default:
			c.Streams = min(max(2, int(idle)), 4)
			said = append(said, fmt.Sprintf("%d streams", c.Streams))
		}
	}
	switch want {
	case CompressOn:
		c.Compress = true
	case CompressAuto:
		switch {
		case rate == 0:
			said = append(said, "not compressed, the link is not measured")
		case idle < 1:
			said = append(said, fmt.Sprintf("not compressed, the processors have no time (%.1f idle)", idle))
		case float64(rate)*zstdLead <= zstdRate*float64(compressors(streams, idle)):
			c.Compress = true
			said = append(said, fmt.Sprintf("compressed, as %.1f idle processors are ahead of %d MiB/s", idle, rate>>20))
		default:
			said = append(said, fmt.Sprintf("not compressed, %d MiB/s are faster than %.1f idle processors", rate>>20, idle))
		}
	}
	if c.Compress {
		c.Streams = compressors(streams, idle)
	}
	return c, strings.Join(said, "; ")
}

// compressors is how many streams compress at once: those that were asked for, else as
// many as there are idle processors.
func compressors(streams int, idle float64) int {
	if streams > 0 {
		return streams
	}
	return min(max(1, int(idle)), 4)
}
