package qmp

import (
	"context"
	"fmt"
)

// Version of a QEMU.
type Version struct {
	QEMU struct {
		Major int `json:"major"`
		Minor int `json:"minor"`
		Micro int `json:"micro"`
	} `json:"qemu"`
	// Package is the distribution's own version, such as "Debian 1:7.2".
	Package string `json:"package"`
}

// String gives the version as "7.2.22".
func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d", v.QEMU.Major, v.QEMU.Minor, v.QEMU.Micro)
}

// RunState is QEMU's word for what a machine does (RunState in
// qapi/run-state.json).
type RunState string

// The run states that Quorate tells apart.
const (
	RunStateRunning       RunState = "running"
	RunStatePaused        RunState = "paused"
	RunStatePrelaunch     RunState = "prelaunch"
	RunStateInMigrate     RunState = "inmigrate"
	RunStateFinishMigrate RunState = "finish-migrate"
	RunStatePostMigrate   RunState = "postmigrate"
	RunStateShutdown      RunState = "shutdown"
	RunStateIOError       RunState = "io-error"
	RunStateInternalError RunState = "internal-error"
)

// Status is the answer to query-status.
type Status struct {
	Running bool     `json:"running"`
	Status  RunState `json:"status"`
}

// QueryStatus says what the machine does.
func (m *Monitor) QueryStatus(ctx context.Context) (Status, error) {
	var s Status
	err := m.Execute(ctx, "query-status", nil, &s)
	return s, err
}

// QueryVersion asks QEMU's version.
func (m *Monitor) QueryVersion(ctx context.Context) (Version, error) {
	var v Version
	err := m.Execute(ctx, "query-version", nil, &v)
	return v, err
}

// KVM is the answer to query-kvm.
type KVM struct {
	Enabled bool `json:"enabled"`
	Present bool `json:"present"`
}

// QueryKVM says whether the machine runs on KVM.
func (m *Monitor) QueryKVM(ctx context.Context) (KVM, error) {
	var k KVM
	err := m.Execute(ctx, "query-kvm", nil, &k)
	return k, err
}

// LosesChanges says that a QEMU of this version does not notice all that a
// running machine writes while it is migrated, so that the machine arrives with
// old memory here and there, and crashes or worse. Without KVM, QEMU's look at
// what was changed left the processors' own note of it as it was, until "physmem:
// Fix migration dirty bitmap coherency with TCG memory access" of March 2024, in
// 9.0. Debian's 7.2 does not have it: of machines that were busy, most arrived
// broken, from plain QEMU to plain QEMU too.
func (v Version) LosesChanges(k KVM) bool { return !k.Enabled && v.QEMU.Major < 9 }

// QueryName asks for the name of the guest.
func (m *Monitor) QueryName(ctx context.Context) (string, error) {
	var n struct {
		Name string `json:"name"`
	}
	err := m.Execute(ctx, "query-name", nil, &n)
	return n.Name, err
}

// QueryUUID asks for the UUID of the guest.
func (m *Monitor) QueryUUID(ctx context.Context) (string, error) {
	var u struct {
		UUID string `json:"UUID"`
	}
	err := m.Execute(ctx, "query-uuid", nil, &u)
	return u.UUID, err
}

// Cont lets the machine run. QEMU refuses it while a migration is at its
// switchover or still to come in.
func (m *Monitor) Cont(ctx context.Context) error { return m.Execute(ctx, "cont", nil, nil) }

// Stop pauses the machine.
func (m *Monitor) Stop(ctx context.Context) error { return m.Execute(ctx, "stop", nil, nil) }

// Quit ends QEMU at once, after its disks were flushed.
func (m *Monitor) Quit(ctx context.Context) error { return m.Execute(ctx, "quit", nil, nil) }

// SystemPowerdown presses the machine's power button (ACPI).
func (m *Monitor) SystemPowerdown(ctx context.Context) error {
	return m.Execute(ctx, "system_powerdown", nil, nil)
}

// Announce says how often a machine's network cards tell the switches where
// they are now. Times are milliseconds.
type Announce struct {
	Initial int64 `json:"initial"`
	Max     int64 `json:"max"`
	Rounds  int64 `json:"rounds"`
	Step    int64 `json:"step"`
}

// AnnounceSelf sends the announcements; it returns before they are out.
func (m *Monitor) AnnounceSelf(ctx context.Context, a Announce) error {
	return m.Execute(ctx, "announce-self", a, nil)
}
