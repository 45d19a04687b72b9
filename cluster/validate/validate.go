package validate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"quorate/cluster/api/apipb"
)

// Results of a check.
const (
	Passed  = "passed"
	Warning = "warning"
	Failed  = "failed"
	Skipped = "skipped"
)

// Categories of checks.
const (
	Network = "Network"
	System  = "System"
	Storage = "Storage"
)

const (
	// DefaultTimeout bounds a run.
	DefaultTimeout = 10 * time.Minute
	// callTimeout bounds one call to a node.
	callTimeout = 30 * time.Second
)

// Node is what validation asks of a node.
type Node interface {
	Describe(ctx context.Context) (*apipb.NodeDescription, error)
	// SanDiscover lists what a portal shows; SanList the targets kept.
	SanDiscover(ctx context.Context, portal string) ([]*apipb.SanTarget, error)
	SanList(ctx context.Context) ([]*apipb.SanTarget, error)
	ProbeLun(ctx context.Context, r *apipb.ProbeLunRequest) (*apipb.ProbeLunResponse, error)
	// Reach connects to addresses, host:port, at most MaxReach at once.
	Reach(ctx context.Context, addresses []string) ([]*apipb.Reached, error)
}

// MaxReach bounds the addresses of one call of Reach.
const MaxReach = 64

// Member is a node under the name that it was given by.
type Member struct {
	Name string
	Node Node
}

// Options are a run's.
type Options struct {
	// Portals are looked at beside the targets that the nodes keep.
	Portals []string
	// Session names this run, differently from every other.
	Session string
	// Timeout bounds the run; DefaultTimeout unless given.
	Timeout time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Validate lists all faults.
func (o Options) Validate() error {
	var faults []error
	if o.Session == "" || len(o.Session) > 64 {
		faults = append(faults, fmt.Errorf("Session: %q is not of 1 to 64 bytes", o.Session))
	}
	if o.Timeout < 0 {
		faults = append(faults, fmt.Errorf("Timeout: %v is negative", o.Timeout))
	}
	if o.Now == nil {
		faults = append(faults, errors.New("Now: must be given"))
	}
	return errors.Join(faults...)
}

// run is one validation under way.
type run struct {
	opt    Options
	nodes  []*node
	report *apipb.Report
	update func(*apipb.ValidateUpdate)
}

// node is a node that has answered.
type node struct {
	Member
	desc *apipb.NodeDescription
	// ahead is how far its clock is ahead of ours, give or take blur.
	ahead, blur time.Duration
	luns        map[string]*apipb.Lun // by identity, as this node reaches them
}

// Run carries out all checks and returns their report. It calls update, from
// this goroutine, as each begins and ends, and at the end with the report.
func Run(ctx context.Context, members []Member, opt Options, update func(*apipb.ValidateUpdate)) (*apipb.Report, error) {
	if err := opt.Validate(); err != nil {
		return nil, fmt.Errorf("options of the validation: %w", err)
	}
	if len(members) == 0 {
		return nil, errors.New("validate: no node was named; name them with --node")
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	r := &run{opt: opt, update: update, report: &apipb.Report{BeganMs: opt.Now().UnixMilli()}}
	for _, m := range members {
		r.report.Nodes = append(r.report.Nodes, m.Name)
	}
	r.describe(ctx, members)
	if len(r.nodes) > 0 {
		r.system()
		r.network(ctx)
		r.storage(ctx)
	}
	r.report.EndedMs = opt.Now().UnixMilli()
	r.update(&apipb.ValidateUpdate{Report: r.report})
	return r.report, nil
}

// begin says what is being done now.
func (r *run) begin(format string, a ...any) {
	r.update(&apipb.ValidateUpdate{Running: fmt.Sprintf(format, a...)})
}

// add takes a finding in.
func (r *run) add(c *apipb.Check) {
	switch c.Result {
	case Warning:
		r.report.Warnings++
	case Failed:
		r.report.Errors++
	case Passed:
		c.Advice = ""
	}
	r.report.Checks = append(r.report.Checks, c)
	r.update(&apipb.ValidateUpdate{Check: c})
}

// grade is the finding of several faults: passed where there is none.
func grade(result string, faults []string, fine string) (string, string) {
	if len(faults) == 0 {
		return Passed, fine
	}
	return result, strings.Join(faults, "; ")
}

// names lists the nodes.
func (r *run) names() string {
	var out []string
	for _, n := range r.nodes {
		out = append(out, n.Name)
	}
	return strings.Join(out, ", ")
}

// each calls do for every node at once, and waits for all.
func (r *run) each(do func(*node)) {
	done := make(chan struct{})
	for _, n := range r.nodes {
		go func() {
			do(n)
			done <- struct{}{}
		}()
	}
	for range r.nodes {
		<-done
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
