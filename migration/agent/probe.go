package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"quorate/migration/migrationpb"
)

// Bounds of measuring a path.
const (
	// probeBytes are sent to measure it, after firstBytes that open the windows of
	// TCP. What does not arrive within probeTimeout is no path for a migration.
	firstBytes   = 256 << 10
	probeBytes   = 8 << 20
	maxProbe     = 64 << 20
	probeTimeout = 5 * time.Second
	// idleFor is over what time idle processors are counted.
	idleFor = 150 * time.Millisecond
)

// Path is what Measure found.
type Path struct {
	// Rate is what the path carries in one encrypted connection, bytes a second.
	Rate int64
	// IdleThere is how many of the target's processors did nothing.
	IdleThere float64
}

// Measure sends some megabytes to the Server that dial connects to, as memory will be
// sent, and returns how fast they arrived. An error says that the path is of no use
// for a migration, or that the Server is of a version that does not know probes.
func Measure(ctx context.Context, dial func(context.Context) (net.Conn, error)) (Path, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var p Path
	for _, n := range []int{firstBytes, probeBytes} {
		took, idle, err := probe(ctx, dial, n)
		if err != nil {
			return Path{}, fmt.Errorf("measure the path: %w", err)
		}
		p = Path{Rate: int64(float64(n) / took.Seconds()), IdleThere: idle}
	}
	return p, nil
}

// probe sends n bytes over a connection of its own.
func probe(ctx context.Context, dial func(context.Context) (net.Conn, error), n int) (took time.Duration, idle float64, err error) {
	conn, err := dial(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // what waits ends
	defer stop()
	hello := &migrationpb.Hello{Role: &migrationpb.Hello_Probe{Probe: &migrationpb.Probe{Bytes: uint32(n)}}}
	if err := writeFrame(conn, hello); err != nil {
		return 0, 0, err
	}
	var answer migrationpb.ToSource
	if err := readFrame(conn, probeTimeout, &answer); err != nil {
		return 0, 0, err
	}
	if answer.GetOpened() == nil {
		return 0, 0, fmt.Errorf("the target's clusterd does not measure paths; bring it to the version of this node's: %s", answer.GetFailed().GetReason())
	}
	began := time.Now()
	buf := make([]byte, relayBuffer)
	if err := conn.SetWriteDeadline(began.Add(probeTimeout)); err != nil {
		return 0, 0, err
	}
	for left := n; left > 0; left -= len(buf) {
		buf = buf[:min(left, len(buf))]
		if _, err := conn.Write(buf); err != nil {
			return 0, 0, err
		}
	}
	answer.Reset()
	if err := readFrame(conn, probeTimeout, &answer); err != nil {
		return 0, 0, err
	}
	if answer.GetProbed() == nil {
		return 0, 0, errors.New("the target did not say that it took everything")
	}
	return time.Since(began), answer.GetProbed().GetIdle(), nil
}

// probed takes what a source sends to measure the path. It counts idle processors
// before, for what is sent keeps them busy.
func (s *Server) probed(conn net.Conn, n uint32) error {
	if n > maxProbe {
		return fmt.Errorf("a probe of %d bytes; at most %d are taken", n, maxProbe)
	}
	idle := 0.0
	if n > firstBytes { // the second one is what counts
		var err error
		if idle, err = IdleProcessors(s.ctx); err != nil {
			return err
		}
	}
	if err := writeFrame(conn, sayOpened); err != nil {
		return err
	}
	if err := conn.SetReadDeadline(time.Now().Add(probeTimeout)); err != nil {
		return err
	}
	buf := make([]byte, relayBuffer)
	for left := int(n); left > 0; {
		got, err := conn.Read(buf[:min(left, len(buf))])
		if left -= got; err != nil && left > 0 {
			return err
		}
	}
	return writeFrame(conn, &migrationpb.ToSource{Body: &migrationpb.ToSource_Probed{Probed: &migrationpb.Probed{Idle: idle}}})
}

// statFile counts what processors did, in hundredths of a second (proc_stat(5)).
const statFile = "/proc/stat"

// IdleProcessors counts for a moment how many of this host's processors do nothing.
func IdleProcessors(ctx context.Context) (float64, error) {
	idle, all, err := processorTime()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(idleFor):
	}
	idle2, all2, err := processorTime()
	if err != nil || all2 <= all {
		return 0, err
	}
	return float64(idle2-idle) / float64(all2-all) * float64(runtime.NumCPU()), nil
}

func processorTime() (idle, all int64, err error) {
	b, err := os.ReadFile(statFile)
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 || f[0] != "cpu" {
		return 0, 0, fmt.Errorf("%s begins with %q, which is not understood", statFile, line)
	}
	for i, w := range f[1:9] { // guests are counted among user already
		n, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", statFile, err)
		}
		all += n
		if i == 3 || i == 4 { // idle, iowait
			idle += n
		}
	}
	return idle, all, nil
}
