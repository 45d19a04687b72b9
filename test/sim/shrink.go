package sim

import "time"

// Shrink looks for the shortest run that shows what a run has shown: it ends it
// right after the violation, and leaves out faults as long as the same checker
// objects. It tries for no longer than budget, and returns the options that it came
// to and their result, with its story.
func Shrink(opt Options, found Result, budget time.Duration) (Options, Result) {
	deadline := time.Now().Add(budget)
	opt.Until = found.Violation.At + time.Second
	best := opt
	best.Skip = map[int]bool{}
	for i := range opt.Skip {
		best.Skip[i] = true
	}
	shows := func(o Options) bool {
		r := Run(o)
		if r.Violation == nil || r.Violation.Checker != found.Violation.Checker {
			return false
		}
		best, best.Until = o, r.Violation.At+time.Second
		return true
	}
	if shows(best) { // it may not, where the judgement came at the run's very end
		for size := found.Faults; size > 0; size /= 2 {
			for at := 0; at < found.Faults && time.Now().Before(deadline); at += size {
				try, more := best, false
				try.Skip = map[int]bool{}
				for i := range best.Skip {
					try.Skip[i] = true
				}
				for i := at; i < min(at+size, found.Faults); i++ {
					more = more || !try.Skip[i]
					try.Skip[i] = true
				}
				if more {
					shows(try)
				}
			}
		}
	} else {
		best = opt
		best.Until = 0
	}
	best.Story = true
	return best, Run(best)
}
