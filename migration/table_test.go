package migration

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// drive feeds inputs, a tenth of a second apart, and returns the names of the
// effects.
func drive(s *Source, inputs ...SourceInput) string {
	now := time.Unix(0, 0)
	var names []string
	for _, in := range inputs {
		now = now.Add(100 * time.Millisecond)
		if w, ok := in.(wait); ok {
			now = now.Add(time.Duration(w))
			in = Tick{}
		}
		for _, e := range s.Step(now, in) {
			name := strings.TrimPrefix(fmt.Sprintf("%T", e), "migration.")
			if f, ok := e.(SourceFinished); ok {
				name += ":" + f.Outcome.String()
			}
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// wait lets time pass.
type wait time.Duration

func (wait) sourceInput() {}

// TestFailures is the table of what QEMU does by itself, row by row.
func TestFailures(t *testing.T) {
	status := func(r Run, tr Transfer) SourceInput { return SourceStatus{Run: r, Transfer: tr} }
	running, active := status(Running, TransferNone), status(Running, TransferActive)
	device, sent := status(Finishing, TransferDevice), status(Sent, TransferCompleted)
	failed := status(Running, TransferFailed)
	copying := []SourceInput{running, Begin{}, TargetReady{}, active}
	both := append(append([]SourceInput{}, copying...), device, sent, TargetLoaded{})
	const begun = "PrepareTarget StartTransfer "
	for _, c := range []struct {
		name   string
		inputs []SourceInput
		want   string
	}{
		{
			"it goes well", append(both, Answered{Answer: AnswerCommitted}, TargetRunning{}),
			begun + "ProposeSwitch TellRun KillSource CloseRelay SourceFinished:moved",
		},
		{
			"the target is not made",
			[]SourceInput{running, Begin{}, TargetFailed{"no memory"}},
			"PrepareTarget CloseRelay KillTarget SourceFinished:stayed",
		},
		{
			"the machine does not run",
			[]SourceInput{status(Paused, TransferNone), Begin{}, TargetReady{}},
			"PrepareTarget CloseRelay KillTarget SourceFinished:stayed",
		},
		{
			"cancelled while copying", append(copying, Cancel{"x"}, active, failed),
			begun + "CloseRelay KillTarget SourceFinished:stayed",
		},
		{
			"the relay breaks while copying", append(copying, RelayBroken{"x"}, failed, failed),
			begun + "CloseRelay KillTarget SourceFinished:stayed",
		},
		{
			"the target dies in pre-switchover", append(copying, status(Finishing, TransferWaiting), TargetFailed{"died"}, failed),
			begun + "ContinueTransfer CloseRelay KillTarget SourceFinished:stayed",
		},
		{
			"the target dies when the source is complete", append(copying, device, sent, TargetFailed{"died"}, sent, running),
			begun + "CloseRelay KillTarget ResumeSource SourceFinished:stayed",
		},
		{
			"the target hangs when the source is complete", append(copying, device, sent, wait(16*time.Second), sent, wait(6*time.Second), running),
			begun + "CloseRelay KillTarget ResumeSource SourceFinished:stayed",
		},
		{
			"refused: the target is ended first", append(both, Answered{Answer: AnswerRefused}, sent, TargetGone{}, running),
			begun + "ProposeSwitch CloseRelay KillTarget ResumeSource SourceFinished:stayed",
		},
		{
			"unknown: both stay paused", append(both, Answered{Answer: AnswerUnknown}, Cancel{"x"}, ControlLost{"x"}, sent, Tick{}, Answered{Answer: AnswerCommitted}),
			begun + "ProposeSwitch ProposeSwitch TellRun KillSource CloseRelay SourceFinished:moved-unseen",
		},
		{
			"nobody's any more", append(both, Answered{Answer: AnswerSuperseded}),
			begun + "ProposeSwitch CloseRelay KillTarget KillSource SourceFinished:superseded",
		},
		{
			"the target never says that it runs", append(both, Answered{Answer: AnswerCommitted}, wait(21*time.Second)),
			begun + "ProposeSwitch TellRun KillSource CloseRelay SourceFinished:moved-unseen",
		},
		{
			"the source dies when the target has everything", append(copying, device, TargetLoaded{}, SourceLost{"x"}, Answered{Answer: AnswerCommitted}, TargetRunning{}),
			begun + "ProposeSwitch TellRun KillSource CloseRelay SourceFinished:moved",
		},
		{
			"the source dies while copying", append(copying, SourceLost{"x"}),
			begun + "CloseRelay KillTarget SourceFinished:lost",
		},
		{
			"the source's QEMU never answers again", append(copying, Cancel{"x"}, wait(61*time.Second)),
			begun + "CloseRelay KillTarget SourceFinished:stayed-unseen",
		},
		{
			"paused first, and it goes well",
			[]SourceInput{running, Begin{PauseFirst: true}, TargetReady{}, status(Paused, TransferActive), sent, TargetLoaded{}, Answered{Answer: AnswerCommitted}, TargetRunning{}},
			"PrepareTarget PauseSource StartTransfer ProposeSwitch TellRun KillSource CloseRelay SourceFinished:moved",
		},
		{
			"paused first, and the relay breaks",
			[]SourceInput{running, Begin{PauseFirst: true}, TargetReady{}, status(Paused, TransferFailed), status(Paused, TransferFailed), TargetGone{}, status(Running, TransferFailed)},
			"PrepareTarget PauseSource StartTransfer CloseRelay KillTarget ResumeSource SourceFinished:stayed",
		},
		{
			"paused first, and QEMU does not begin",
			[]SourceInput{running, Begin{PauseFirst: true}, TargetReady{}, TransferRefused{"x"}, status(Paused, TransferNone), TargetGone{}, running},
			"PrepareTarget PauseSource StartTransfer CloseRelay KillTarget ResumeSource SourceFinished:stayed",
		},
		{
			"the target is not ready in time",
			[]SourceInput{running, Begin{}, wait(61 * time.Second)},
			"PrepareTarget CloseRelay KillTarget SourceFinished:stayed",
		},
	} {
		if got := drive(NewSource(SourceOptions{}), c.inputs...); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestPauseLimitIsRaised(t *testing.T) {
	s := NewSource(SourceOptions{PauseLimit: 30 * time.Millisecond, MaxPause: 100 * time.Millisecond})
	in := []SourceInput{SourceStatus{Run: Running}, Begin{}, TargetReady{}}
	for round := range int64(50) {
		in = append(in, SourceStatus{Run: Running, Transfer: TransferActive, Sample: Sample{Transferred: round << 20, Remaining: 1 << 30, Total: 1 << 30, Rounds: round, Dirty: 1 << 30}})
	}
	if got := drive(s, in...); got != "PrepareTarget StartTransfer SetPauseLimit Note SetPauseLimit Note SetThrottle Note SetThrottle Note" {
		t.Error(got)
	}
	if s.Phase() != PhaseCopy || s.limit != 100*time.Millisecond {
		t.Errorf("phase %v, limit %v", s.Phase(), s.limit)
	}
	p := s.Progress(time.Unix(10, 0))
	if p.Rate != 10<<20 || p.Expected != -1 || p.Rounds != 49 {
		t.Errorf("%+v", p)
	}
	drive(s, SourceStatus{Run: Running, Transfer: TransferActive, Sample: Sample{Transferred: 51 << 20, Remaining: 1000, Total: 1 << 30, Rounds: 51}})
	if s.Phase() != PhaseSettle {
		t.Errorf("phase %v", s.Phase())
	}
}

func TestExpected(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		remaining, rate, dirty int64
		want                   time.Duration
	}{
		{0, 0, 0, 0},
		{100, 0, 0, -1},
		{10 * mb, 100 * mb, 0, 0},
		{110 * mb, 100 * mb, 0, time.Second},
		{110 * mb, 100 * mb, 50 * mb, 2 * time.Second},
		{110 * mb, 100 * mb, 100 * mb, -1},
		{1 << 62, 2, 1, -1},
	} {
		if got := Expected(c.remaining, c.rate, c.dirty, 100*time.Millisecond); got != c.want {
			t.Errorf("Expected(%d, %d, %d) = %v, want %v", c.remaining, c.rate, c.dirty, got, c.want)
		}
	}
}

func TestOptionsValidate(t *testing.T) {
	if err := (SourceOptions{}).Validate(); err != nil {
		t.Error(err)
	}
	err := SourceOptions{PauseLimit: time.Second, MaxPause: time.Millisecond, Retry: -1, RaiseRounds: -1, AbortTimeout: 1}.Validate()
	if err == nil || strings.Count(err.Error(), "migration: ") != 4 {
		t.Errorf("got %v", err)
	}
	if err := (TargetOptions{Patience: -1}).Validate(); err == nil {
		t.Error("a negative patience was taken")
	}
}

// TestRecover looks at every combination for what must never be.
func TestRecover(t *testing.T) {
	for _, incoming := range []bool{false, true} {
		for run := RunOther; run <= Sent; run++ {
			for tr := TransferNone; tr <= TransferFailed; tr++ {
				for owner := OwnerUnknown; owner <= OwnerElse; owner++ {
					a := Recover(incoming, run, tr, owner)
					at := []any{incoming, run, tr, owner, a}
					if a == ActResume && owner != OwnerSelf {
						t.Errorf("resumed without owning it: %v", at)
					}
					if (a == ActKill) && owner == OwnerSelf {
						t.Errorf("ended by its owner: %v", at)
					}
					if a == ActLeave && run == Running && (owner == OwnerPeer || owner == OwnerElse) {
						t.Errorf("left running without owning it: %v", at)
					}
				}
			}
		}
	}
	for _, c := range []struct {
		incoming bool
		run      Run
		t        Transfer
		owner    Owner
		want     Action
	}{
		{false, Running, TransferActive, OwnerSelf, ActLeave},
		{false, Sent, TransferCompleted, OwnerSelf, ActResume},
		{false, Sent, TransferCompleted, OwnerUnknown, ActWait},
		{false, Sent, TransferCompleted, OwnerPeer, ActKill},
		{false, Finishing, TransferDevice, OwnerSelf, ActWait},
		{false, Paused, TransferNone, OwnerSelf, ActResume},
		{false, Paused, TransferFailed, OwnerSelf, ActResume},
		{false, Paused, TransferFailed, OwnerUnknown, ActWait},
		{false, Paused, TransferActive, OwnerSelf, ActWait},
		{false, RunOther, TransferNone, OwnerSelf, ActLeave},
		{true, Paused, TransferFailed, OwnerSelf, ActResume},
		{true, Sent, TransferCompleted, OwnerSelf, ActResume},
		{true, Paused, TransferCompleted, OwnerSelf, ActResume},
		{true, Paused, TransferCompleted, OwnerPeer, ActWait},
		{true, Paused, TransferCompleted, OwnerElse, ActKill},
		{true, Awaiting, TransferActive, OwnerPeer, ActKill},
		{true, Awaiting, TransferActive, OwnerSelf, ActRestart},
	} {
		if got := Recover(c.incoming, c.run, c.t, c.owner); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestCheck(t *testing.T) {
	m := Needs{Name: "sql01", MemoryMiB: 1024, CPUModel: "host", MachineType: "pc-q35-7.2", Volume: "Volume1", Networks: []string{"clients"}}
	good := NodeFacts{
		Name: "s1", CPUVendor: "AMD", CPUFamily: 25, KVM: true, FreeMemoryMiB: 2048, QEMU: [3]int{7, 2, 22},
		MachineTypes: []string{"pc-q35-7.2"}, Volumes: []string{"Volume1"}, Networks: []string{"clients"},
	}
	if f := Check(m, good, good); len(f) != 0 {
		t.Errorf("equal nodes: %+v", f)
	}
	bad := NodeFacts{Name: "s2", CPUVendor: "Intel", KVM: true, QEMU: [3]int{7, 1, 99}}
	var got []string
	for _, f := range Check(m, good, bad) {
		got = append(got, fmt.Sprint(f.Severity, f.What))
	}
	if want := "[1processor 1memory 1volume 1network 1machine 0qemu]"; fmt.Sprint(got) != want {
		t.Errorf("got %v", got)
	}
	other := good
	other.CPUFamily = 26
	if f := Check(m, good, other); len(f) != 1 || f[0].Severity != Fault {
		t.Errorf("host model on another family: %+v", f)
	}
	m.CPUModel = "x86-64-v2"
	if f := Check(m, good, other); len(f) != 1 || f[0].Severity != Warning {
		t.Errorf("common model on another family: %+v", f)
	}
	other.KVM = false
	if f := Check(m, good, other); len(f) != 1 || f[0].Severity != Fault {
		t.Errorf("KVM to TCG: %+v", f)
	}
}
