package migration

import (
	"fmt"
	"time"

	"quorate/internal/mutant"
)

// abort gives the migration up while the source owns the machine for certain.
func (s *Source) abort(now time.Time, why string) []SourceEffect {
	s.reason, s.fresh = why, false
	s.enter(now, stageAborting, s.phase)
	effects := []SourceEffect{CloseRelay{}, KillTarget{}}
	return append(effects, s.aborting(now)...)
}

// aborting waits until the source runs, and lets it run if QEMU does not by
// itself. The target never runs without ownership, so an unreachable one is no
// reason to wait for longer than KillTimeout.
func (s *Source) aborting(now time.Time) []SourceEffect {
	waited := now.Sub(s.since)
	st := s.status
	switch {
	case s.qemuGone:
		return s.finish(now, Lost)
	case s.fresh && st.Run == Running && !st.Transfer.inFlight():
		return s.finish(now, Stayed)
	case !s.started:
		return s.finish(now, Stayed) // QEMU was never asked for anything
	case waited > s.o.AbortTimeout:
		s.reason += fmt.Sprintf("; the machine's QEMU on the source did not come to run within %v", s.o.AbortTimeout)
		return s.finish(now, StayedUnseen)
	}
	complete := st.Transfer == TransferCompleted && st.Run == Sent
	stuck := st.Transfer == TransferFailed && st.Run != Running && waited > s.o.ResumeGrace
	left := s.pauseFirst && st.Run != Running && !st.Transfer.inFlight()
	if !s.fresh || !complete && !stuck && !left {
		return nil
	}
	if !s.peerGone && waited <= s.o.KillTimeout {
		return nil
	}
	if !s.resumed.IsZero() && now.Sub(s.resumed) < s.o.Retry {
		return nil
	}
	s.resumed = now
	return []SourceEffect{ResumeSource{}}
}

// switching waits for the answer to the proposal. Nothing else decides.
func (s *Source) switching(now time.Time, in SourceInput) []SourceEffect {
	a, ok := in.(Answered)
	if !ok || !s.asked {
		if s.asked || now.Before(s.askNext) {
			return nil
		}
		s.asked = true
		return []SourceEffect{ProposeSwitch{}}
	}
	s.asked = false
	if a.Answer == AnswerUnknown && mutant.On("unknown is no") {
		a.Answer = AnswerRefused
	}
	switch a.Answer {
	case AnswerCommitted:
		s.enter(now, stageCommitted, PhaseAnnounce)
		return append([]SourceEffect{TellRun{}}, s.committed(now, nil)...)
	case AnswerRefused:
		return s.abort(now, "the switch was refused: "+a.Reason)
	case AnswerSuperseded:
		s.reason = "neither end owns the machine any more: " + a.Reason
		return append([]SourceEffect{CloseRelay{}, KillTarget{}, KillSource{}}, s.finish(now, Superseded)...)
	default:
		s.reason = "the database did not answer for a while: " + a.Reason
		s.askNext = now.Add(s.o.Retry)
		return nil
	}
}

// committed waits until the target runs, and ends the source in any case: it is
// not its machine any more.
func (s *Source) committed(now time.Time, in SourceInput) []SourceEffect {
	if _, ok := in.(TargetRunning); ok {
		return append([]SourceEffect{KillSource{}, CloseRelay{}}, s.finish(now, Moved)...)
	}
	why := ""
	if in != nil {
		why = s.trouble(in)
		if _, cancelled := in.(Cancel); cancelled {
			why = "" // too late
		}
		if _, lost := in.(SourceLost); lost {
			why = "" // it is not needed any more
		}
	} else if s.peerGone {
		why = "the target was lost while ownership passed"
	}
	if why == "" && now.Sub(s.since) > s.o.RunTimeout {
		why = fmt.Sprintf("the target did not run within %v", s.o.RunTimeout)
	}
	if why == "" {
		return nil
	}
	s.reason = why
	return append([]SourceEffect{KillSource{}, CloseRelay{}}, s.finish(now, MovedUnseen)...)
}

func (s *Source) finish(now time.Time, o Outcome) []SourceEffect {
	s.enter(now, stageOver, PhaseOver)
	s.outcome = o
	if o == Moved {
		s.reason = ""
	}
	return []SourceEffect{SourceFinished{Outcome: o, Reason: s.reason}}
}
