package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MigrationStatus is QEMU's word for the state of a migration (MigrationStatus
// in qapi/migration.json). It is empty before the first.
type MigrationStatus string

// The states of a migration.
const (
	MigrationNone            MigrationStatus = "none"
	MigrationSetup           MigrationStatus = "setup"
	MigrationCancelling      MigrationStatus = "cancelling"
	MigrationCancelled       MigrationStatus = "cancelled"
	MigrationActive          MigrationStatus = "active"
	MigrationCompleted       MigrationStatus = "completed"
	MigrationFailed          MigrationStatus = "failed"
	MigrationPreSwitchover   MigrationStatus = "pre-switchover"
	MigrationDevice          MigrationStatus = "device"
	MigrationWaitUnplug      MigrationStatus = "wait-unplug"
	MigrationPostcopyPaused  MigrationStatus = "postcopy-paused"
	MigrationPostcopyActive  MigrationStatus = "postcopy-active"
	MigrationPostcopyRecover MigrationStatus = "postcopy-recover"
)

// MigrationInfo is the answer to query-migrate. Times are milliseconds, amounts
// bytes.
type MigrationInfo struct {
	Status       MigrationStatus `json:"status"`
	ErrorDesc    string          `json:"error-desc"`
	TotalTime    int64           `json:"total-time"`
	SetupTime    int64           `json:"setup-time"`
	Downtime     int64           `json:"downtime"`
	ExpectedDown int64           `json:"expected-downtime"`
	RAM          MigrationRAM    `json:"ram"`
}

// MigrationRAM counts the memory of a migration, in bytes unless said.
type MigrationRAM struct {
	Transferred int64 `json:"transferred"`
	Remaining   int64 `json:"remaining"`
	Total       int64 `json:"total"`
	// DirtyPagesRate is pages a second, each of PageSize bytes.
	DirtyPagesRate int64 `json:"dirty-pages-rate"`
	PageSize       int64 `json:"page-size"`
	// DirtySyncCount counts the rounds.
	DirtySyncCount int64 `json:"dirty-sync-count"`
	// Mbps is the rate of sending in megabits a second.
	Mbps float64 `json:"mbps"`
}

// QueryMigrate says how the latest migration, out or in, stands.
func (m *Monitor) QueryMigrate(ctx context.Context) (MigrationInfo, error) {
	var i MigrationInfo
	err := m.Execute(ctx, "query-migrate", nil, &i)
	return i, err
}

// MigrateSetCapabilities switches capabilities on or off.
func (m *Monitor) MigrateSetCapabilities(ctx context.Context, caps map[string]bool) error {
	type capability struct {
		Capability string `json:"capability"`
		State      bool   `json:"state"`
	}
	list := make([]capability, 0, len(caps))
	for name, on := range caps {
		list = append(list, capability{name, on})
	}
	return m.Execute(ctx, "migrate-set-capabilities", map[string]any{"capabilities": list}, nil)
}

// MigrateSetParameters sets parameters by QEMU's names (MigrateSetParameters in
// qapi/migration.json).
func (m *Monitor) MigrateSetParameters(ctx context.Context, params map[string]any) error {
	return m.Execute(ctx, "migrate-set-parameters", params, nil)
}

// Migrate begins to send the machine to uri; it returns before that is done.
func (m *Monitor) Migrate(ctx context.Context, uri string) error {
	return m.Execute(ctx, "migrate", map[string]any{"uri": uri}, nil)
}

// MigrateIncoming lets a QEMU started with -incoming defer listen at uri.
func (m *Monitor) MigrateIncoming(ctx context.Context, uri string) error {
	return m.Execute(ctx, "migrate-incoming", map[string]any{"uri": uri}, nil)
}

// MigrateCancel gives a migration up. It must not be relied on once the last
// phase has begun: it answers nothing while the target hangs.
func (m *Monitor) MigrateCancel(ctx context.Context) error {
	return m.Execute(ctx, "migrate_cancel", nil, nil)
}

// MigrateContinue goes on from a migration that waits in state.
func (m *Monitor) MigrateContinue(ctx context.Context, state MigrationStatus) error {
	return m.Execute(ctx, "migrate-continue", map[string]any{"state": state}, nil)
}

// MigrationChange reads the state out of a MIGRATION event.
func MigrationChange(e Event) (MigrationStatus, error) {
	var d struct {
		Status MigrationStatus `json:"status"`
	}
	if err := json.Unmarshal(e.Data, &d); err != nil {
		return "", fmt.Errorf("qmp: event %s with %q is not understood: %w", e.Name, clip(e.Data), err)
	}
	return d.Status, nil
}

// ErrNoDirtyRate says that QEMU has not found out how much a machine changes.
var ErrNoDirtyRate = errors.New("qmp: how much the machine changes could not be measured")

// DirtyRate measures for a time, in whole seconds, how much a machine changes, in bytes
// a second (calc-dirty-rate, by samples of its pages). It must be asked with KVM alone.
func (m *Monitor) DirtyRate(ctx context.Context, over time.Duration) (int64, error) {
	args := map[string]any{"calc-time": int64(over / time.Second), "sample-pages": 4096}
	if err := m.Execute(ctx, "calc-dirty-rate", args, nil); err != nil {
		return 0, err
	}
	var r struct {
		Status string `json:"status"`
		Rate   *int64 `json:"dirty-rate"` // MiB a second
	}
	for until := time.Now().Add(over + 2*time.Second); time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
		if err := m.Execute(ctx, "query-dirty-rate", nil, &r); err != nil {
			return 0, err
		}
		if r.Status == "measured" && r.Rate != nil {
			return *r.Rate << 20, nil
		}
	}
	return 0, ErrNoDirtyRate
}
