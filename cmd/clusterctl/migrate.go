package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// resultCompleted is the result of a move that was made.
const resultCompleted = "completed"

// cmdLiveMigrate moves a running machine, or all of a node's.
type cmdLiveMigrate struct {
	app   *app
	req   apipb.LiveMigrateRequest
	from  string
	all   bool
	best  bool
	check bool
	watch bool
	carriageFlags
}

func (c *cmdLiveMigrate) command() *cobra.Command {
	cmd := &cobra.Command{
		Use: "live-migrate {VM | --from NODE --all}", Short: "Move running machines to another node", Args: cobra.MaximumNArgs(1),
		Long: `Moves a running machine to another node without its users noticing, and shows how
it goes: the phase, what was sent, what is left and how fast memory changes. A
move that fails leaves the machine running where it was. Interrupting this command
does not end the move (migration cancel does). What stands against a move is found
out before it begins; --check only tells, with a forecast.

So many machines leave a node and come to one at a time (migration set); the others
wait, those with the higher priority first. With --from and --all, every running
machine of a node moves.

With -o json every line is one object; the last of each machine has the result.`,
		Example: `  clusterctl live-migrate vWS08-SQL01 --to s2
  clusterctl live-migrate vWS08-SQL01 --best --check
  clusterctl live-migrate --from s1 --all`,
		ValidArgsFunction: first(c.app.names(machineNames)),
	}
	f := cmd.Flags()
	f.StringVar(&c.req.To, "to", "", "`node` to move it to (default: the best)")
	f.BoolVar(&c.best, "best", false, "move it to the best node, as is done without --to")
	f.StringVar(&c.from, "from", "", "`node` that machines leave, with --all")
	f.BoolVar(&c.all, "all", false, "move all running machines of the node")
	f.BoolVar(&c.check, "check", false, "tell what stands against it and how long it would take, and do nothing")
	f.BoolVar(&c.watch, "watch", true, "follow the move until it has ended")
	f.Uint32Var(&c.req.Priority, "priority", 0, "`number`; of moves that wait the one with more goes first")
	c.add(cmd)
	for _, name := range []string{"to", "from"} {
		complete(cmd, name, c.app.names(nodeNames))
	}
	complete(cmd, "priority", cobra.NoFileCompletions)
	cmd.RunE = c.app.long(func(ctx context.Context, cl *client.Client, args []string) error {
		c.req.Options = c.options(f)
		return c.run(ctx, cl, args)
	})
	return cmd
}

func (c *cmdLiveMigrate) run(ctx context.Context, cl *client.Client, args []string) error {
	switch {
	case c.all != (c.from != ""):
		return usage("--from and --all go together: all machines of that node")
	case c.all == (len(args) == 1):
		return usage("name one machine, or a node with --from NODE --all")
	case c.best && c.req.To != "":
		return usage("--best chooses the node, and --to names it: give one of them")
	}
	names := args
	if c.all {
		s, err := c.app.status(ctx, cl)
		if err != nil {
			return err
		}
		if names, err = runningOn(s, c.from); err != nil {
			return err
		}
		if len(names) == 0 && !c.app.asJSON() {
			c.app.printf("No machine runs on %s.\n", clean(c.from))
		}
	}
	if c.check {
		return c.checkAll(ctx, cl, names)
	}
	if len(names) == 1 {
		return c.follow(ctx, cl, names[0], c.app.live(c.app.out))
	}
	return c.followAll(ctx, cl, names)
}

// runningOn are the machines that run on a node.
func runningOn(s *apipb.StatusResponse, node string) (names []string, err error) {
	if !slices.Contains(nodeNames(s), node) {
		return nil, &statusError{client.ExitNotFound, fmt.Sprintf("there is no node %q: see `clusterctl node list`", clean(node))}
	}
	for _, g := range s.Groups {
		if g.Type == typeVM && g.Owner == node && g.State == "online" {
			names = append(names, g.Name)
		}
	}
	return names, nil
}

func (c *cmdLiveMigrate) checkAll(ctx context.Context, cl *client.Client, names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, c.app.checkMove(ctx, cl, name, c.req.To))
	}
	return firstOf(errs)
}

// firstOf is the first error, which says how the command ends; the others' texts go with
// it.
func firstOf(errs []error) error {
	var first error
	var more []string
	for _, err := range errs {
		switch {
		case err == nil:
		case first == nil:
			first = err
		default:
			more = append(more, err.Error())
		}
	}
	if len(more) == 0 {
		return first
	}
	return fmt.Errorf("%w\n%s", first, strings.Join(more, "\n"))
}

// followAll moves several; the cluster lets so many go at once.
func (c *cmdLiveMigrate) followAll(ctx context.Context, cl *client.Client, names []string) error {
	errs := make([]error, len(names))
	out := &lines{w: c.app.out}
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			one := *c.app
			one.out = out
			errs[i] = (&cmdLiveMigrate{app: &one, req: apipb.LiveMigrateRequest{To: c.req.To, Priority: c.req.Priority, Options: c.req.Options}, watch: c.watch}).follow(ctx, cl, name, nil)
		})
	}
	wg.Wait()
	return firstOf(errs)
}

// lines is a writer that several write whole lines to.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

// Write implements io.Writer.
func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

// follow moves one machine; line shows how it goes, nil where only its end is told.
func (c *cmdLiveMigrate) follow(ctx context.Context, cl *client.Client, name string, line *live) error {
	c.req.Vm = name
	stream, err := cl.Cluster.LiveMigrate(ctx, connect.NewRequest(&c.req))
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }()
	if line != nil {
		defer line.clear()
	}
	for stream.Receive() {
		u := stream.Msg()
		switch {
		case u.Done:
			if line != nil {
				line.clear()
			}
			return c.result(u)
		case c.app.asJSON():
			if err := c.app.lineJSON(newMoveJSON(u)); err != nil {
				return err
			}
		case line != nil:
			line.say(u.Phase, moveText(u))
		}
		if !c.watch {
			if line != nil {
				line.clear()
			}
			if !c.app.asJSON() {
				c.app.printf("%s moves from %s to %s; see `clusterctl migration list`.\n", clean(u.Vm), clean(u.From), clean(u.To))
			}
			return nil
		}
	}
	if line != nil {
		line.clear()
	}
	if err := stream.Err(); err != nil {
		return err
	}
	return whole(false)
}

func (c *cmdLiveMigrate) result(u *apipb.MigrationUpdate) error {
	if c.app.asJSON() {
		if err := c.app.lineJSON(newMovedJSON(u)); err != nil {
			return err
		}
	}
	if u.Result != resultCompleted {
		text := fmt.Sprintf("%s was not moved", u.Vm)
		if u.Result != "failed" {
			text = fmt.Sprintf("the move of %s is %s", u.Vm, u.Result)
		}
		if u.Reason != "" {
			text += ": " + u.Reason
		}
		return &statusError{client.ExitFailed, clean(text)}
	}
	if !c.app.asJSON() {
		c.app.printf("%s moved from %s to %s in %s, paused for %s; %s sent in %d rounds.\n", u.Vm, u.From, u.To,
			time.Duration(u.TotalMs)*time.Millisecond, pause(u.PauseUs), formatSize(u.Bytes), u.Rounds)
	}
	return nil
}

func pause(us int64) time.Duration {
	return (time.Duration(us) * time.Microsecond).Round(100 * time.Microsecond)
}

// moveText is how a move stands.
func moveText(u *apipb.MigrationUpdate) string {
	text := fmt.Sprintf("%-8s", u.Phase)
	if u.Waits != "" {
		return text + "  " + u.Waits
	}
	if u.Bytes > 0 {
		text += fmt.Sprintf("  %s sent, round %d, %s/s, %s left", formatSize(u.Bytes), u.Rounds, formatSize(u.Rate), formatSize(u.Remaining))
	}
	if u.DirtyRate > 0 {
		text += fmt.Sprintf(", changes %s/s", formatSize(u.DirtyRate))
	}
	if u.ExpectedMs > 0 {
		text += fmt.Sprintf(", about %s", (time.Duration(u.ExpectedMs) * time.Millisecond).Round(100*time.Millisecond))
	}
	return text
}

// moveJSON is how a move stands.
type moveJSON struct {
	VM         string `json:"vm"`
	From       string `json:"from"`
	To         string `json:"to"`
	Phase      string `json:"phase"`
	Bytes      int64  `json:"bytes"`
	Rounds     int64  `json:"rounds"`
	Rate       int64  `json:"rate"`
	Remaining  int64  `json:"remaining"`
	DirtyRate  int64  `json:"dirty_rate"`
	ExpectedMs int64  `json:"expected_ms"`
}

func newMoveJSON(u *apipb.MigrationUpdate) moveJSON {
	return moveJSON{u.Vm, u.From, u.To, u.Phase, u.Bytes, u.Rounds, u.Rate, u.Remaining, u.DirtyRate, u.ExpectedMs}
}

// movedJSON is how a move ended.
type movedJSON struct {
	VM      string `json:"vm"`
	From    string `json:"from"`
	To      string `json:"to"`
	TotalMs int64  `json:"total_ms"`
	PauseMs int64  `json:"pause_ms"`
	PauseUs int64  `json:"pause_us"`
	Bytes   int64  `json:"bytes"`
	Rounds  int64  `json:"rounds"`
	Result  string `json:"result"`
	Reason  string `json:"reason"`
}

func newMovedJSON(u *apipb.MigrationUpdate) movedJSON {
	return movedJSON{u.Vm, u.From, u.To, u.TotalMs, (u.PauseUs + 500) / 1000, u.PauseUs, u.Bytes, u.Rounds, u.Result, u.Reason}
}
