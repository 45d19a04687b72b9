package main

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect"
	"github.com/jedib0t/go-pretty/v6/table"

	"quorate/cluster/api/apipb"
	"quorate/cluster/client"
)

// checkMove prints what stands against a move, and a forecast. It fails where something
// does.
func (a *app) checkMove(ctx context.Context, cl *client.Client, name, to string) error {
	res, err := cl.Cluster.MigrationCheck(ctx, connect.NewRequest(&apipb.MigrationCheckRequest{Vm: name, To: to}))
	if err != nil {
		return err
	}
	r, bad := res.Msg, 0
	for _, f := range r.Findings {
		if f.Severity == "error" {
			bad++
		}
	}
	if a.asJSON() {
		if err := a.printJSON(newMoveCheckJSON(r)); err != nil {
			return err
		}
	} else {
		g := grid{head: table.Row{"Severity", "What", "Finding"}}
		for _, f := range r.Findings {
			g.rows = append(g.rows, row(f.Severity, f.What, f.Text))
		}
		if len(g.rows) > 0 {
			a.grid(g)
		}
		if bad == 0 {
			a.printf("%s\n", clean(forecast(r)))
		}
	}
	if bad > 0 {
		return &statusError{client.ExitRefused, clean(fmt.Sprintf("%s cannot move to %s: %d things stand against it", r.Vm, r.To, bad))}
	}
	return nil
}

// forecast is the whole of it in a sentence.
func forecast(r *apipb.MigrationCheckResponse) string {
	text := fmt.Sprintf("%s can move from %s to %s over %s, which carried %s/s, by %s", r.Vm, r.From, r.To, r.Network, formatSize(r.Rate), r.Carriage)
	if r.ExpectedMs < 0 {
		return text + "; the copy would not settle by itself."
	}
	return text + fmt.Sprintf("; about %s for %s, paused for about %s.", millis(r.ExpectedMs).Round(10*time.Millisecond), formatSize(r.Bytes), millis(r.ExpectedPauseMs))
}

type moveCheckJSON struct {
	VM              string            `json:"vm"`
	From            string            `json:"from"`
	To              string            `json:"to"`
	Findings        []moveFindingJSON `json:"findings"`
	Network         string            `json:"network"`
	Carriage        string            `json:"carriage"`
	Rate            int64             `json:"rate"`
	DirtyRate       int64             `json:"dirty_rate"`
	Bytes           int64             `json:"bytes"`
	ExpectedMs      int64             `json:"expected_ms"`
	ExpectedPauseMs int64             `json:"expected_pause_ms"`
}

type moveFindingJSON struct {
	Severity string `json:"severity"`
	What     string `json:"what"`
	Text     string `json:"text"`
}

func newMoveCheckJSON(r *apipb.MigrationCheckResponse) moveCheckJSON {
	return moveCheckJSON{
		r.Vm, r.From, r.To, each(r.Findings, func(f *apipb.MigrationFinding) moveFindingJSON { return moveFindingJSON{f.Severity, f.What, f.Text} }),
		r.Network, r.Carriage, r.Rate, r.DirtyRate, r.Bytes, r.ExpectedMs, r.ExpectedPauseMs,
	}
}
