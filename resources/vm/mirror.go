package vm

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"quorate/internal/qmp"
)

// mirrorJob begins the names of the jobs by which a machine's disks are mirrored.
const mirrorJob = "storage-"

// How often QEMU is asked how mirrors stand, and for how long one that is complete may
// take to say so.
const (
	mirrorEvery   = 2 * time.Millisecond
	mirrorTimeout = 30 * time.Second
)

// ErrSplit says that a machine has part of its disks where it does not live any more: it
// must be ended before it writes, and started where it lives.
var ErrSplit = errors.New("vm: the machine uses disks that are no longer its own")

// diskNode is the name of a disk's block node: as the machine was started, or as it got
// it by a move.
var diskNode = regexp.MustCompile(`^disk(\d+)(-m\d+)?$`)

// moved is the name of a disk's node after a move.
func movedNode(i int, move uint64) string { return fmt.Sprintf("disk%d-m%d", i, move) }

// movable are the numbers of the disks that lie in the machine's folder.
func (m *Machine) movable() []int {
	var out []int
	for i, d := range m.record.Settings.Disks {
		if !filepath.IsAbs(d.Path) {
			out = append(out, i)
		}
	}
	return out
}

// Mirror begins to copy the disks of the machine's folder into the images that lie in
// another, for the move of that number, at most so many bytes a second (0: no limit). It
// must be ended by EndMirror, even where it fails.
func (m *Machine) Mirror(ctx context.Context, folder string, move uint64, speed int64) error {
	return m.ask(ctx, func(q *qmp.Monitor) error {
		using, err := q.QueryBlock(ctx)
		if err != nil {
			return err
		}
		disks := m.movable()
		for _, i := range disks {
			if err := m.mirror(ctx, q, using, i, folder, move, speed/int64(len(disks))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *Machine) mirror(ctx context.Context, q *qmp.Monitor, using []qmp.BlockNode, i int, folder string, move uint64, speed int64) error {
	d := m.record.Settings.Disks[i]
	at := slices.IndexFunc(using, func(n qmp.BlockNode) bool {
		name := diskNode.FindStringSubmatch(n.Name)
		return name != nil && name[1] == fmt.Sprint(i)
	})
	if at < 0 {
		return fmt.Errorf("disk %d is not there", i)
	}
	direct := map[string]any{"direct": true}
	target := movedNode(i, move)
	err := q.BlockdevAdd(ctx, map[string]any{
		"driver": "file", "node-name": target + "-file", "aio": "threads", "locking": "on", "cache": direct, "filename": resolve(folder, d.Path),
	})
	if err == nil {
		err = q.BlockdevAdd(ctx, map[string]any{"driver": d.Format, "node-name": target, "file": target + "-file", "cache": direct})
	}
	if err != nil {
		return err
	}
	return q.BlockdevMirror(ctx, qmp.Mirror{Job: fmt.Sprintf("%s%d-%d", mirrorJob, move, i), Device: using[at].Name, Target: target, Speed: speed})
}

// Mirrored tells how much of the disks was copied, in bytes, and whether they are equal
// and stay so. The error is that of a mirror that failed.
func (m *Machine) Mirrored(ctx context.Context) (copied, total int64, equal bool, err error) {
	equal = true
	err = m.ask(ctx, func(q *qmp.Monitor) error {
		jobs, err := mirrors(ctx, q)
		if err == nil && len(jobs) < len(m.movable()) {
			err = errors.New("the mirror of a disk is gone")
		}
		for _, j := range jobs {
			if err == nil && j.Status == qmp.JobConcluded {
				err = fmt.Errorf("the mirror of a disk failed: %s", j.Error)
			}
			copied, total, equal = copied+j.Progress, total+j.Total, equal && (j.Status == qmp.JobReady || j.Status == qmp.JobPending)
		}
		return err
	})
	return copied, total, equal, err
}

// mirrors are the jobs of moves.
func mirrors(ctx context.Context, q *qmp.Monitor) ([]qmp.Job, error) {
	jobs, err := q.QueryJobs(ctx)
	return slices.DeleteFunc(jobs, func(j qmp.Job) bool { return !strings.HasPrefix(j.ID, mirrorJob) }), err
}

// HoldMirror pauses the machine and makes the copies complete and durable. The machine
// stands still until EndMirror, whatever is returned: where one disk went over and
// another did not, it would write to one that it lives on no more. It is paused first,
// for QEMU 7.2 fails an assertion where that comes while a mirror is pending.
func (m *Machine) HoldMirror(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	return m.ask(ctx, func(q *qmp.Monitor) error {
		st, err := q.QueryStatus(ctx)
		if err == nil && st.Running {
			err = q.Stop(ctx)
		}
		if err != nil {
			return err
		}
		jobs, err := mirrors(ctx, q)
		for _, j := range jobs {
			if err == nil {
				err = q.JobComplete(ctx, j.ID)
			}
		}
		if err != nil {
			return err
		}
		return untilMirrors(ctx, q, func(j qmp.Job) (bool, error) {
			if j.Status == qmp.JobConcluded {
				return false, fmt.Errorf("the mirror of a disk failed: %s", j.Error)
			}
			return j.Status == qmp.JobPending, nil
		})
	})
}

// untilMirrors asks until all mirrors are as wanted.
func untilMirrors(ctx context.Context, q *qmp.Monitor, wanted func(qmp.Job) (bool, error)) error {
	tick := time.NewTicker(mirrorEvery)
	defer tick.Stop()
	for {
		jobs, err := mirrors(ctx, q)
		all := true
		for _, j := range jobs {
			is, werr := wanted(j)
			all, err = all && is, errors.Join(err, werr)
		}
		if err != nil || all {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the mirrors of the disks do not come to an end: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// EndMirror ends what Mirror began, for the move of that number, whatever came of it:
// with lives the machine goes on with the copies, in the folder that it lives in from
// here on, and without with the disks that it has. Asked again it does what is left to
// be done. ErrSplit says that the machine must be ended.
func (m *Machine) EndMirror(ctx context.Context, move uint64, lives string) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorTimeout)
	defer cancel()
	goes := lives != "" && m.Folder() != lives // else the process was started there
	err := m.ask(ctx, func(q *qmp.Monitor) error {
		jobs, err := mirrors(ctx, q)
		if err == nil && goes {
			err = m.goOver(ctx, q, jobs, move)
		}
		if err == nil {
			err = endMirrors(ctx, q)
		}
		if err == nil && len(jobs) > 0 {
			err = goOn(ctx, q)
		}
		if err != nil {
			return err
		}
		return closeUnused(ctx, q)
	})
	if err != nil || !goes {
		return err
	}
	r := m.record
	r.Folder = lives
	if err := r.save(m.paths); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.folder = lives
	return nil
}

// goOver has the machine use the copies.
func (m *Machine) goOver(ctx context.Context, q *qmp.Monitor, jobs []qmp.Job, move uint64) error {
	var err error
	for _, j := range jobs {
		if j.Status == qmp.JobPending && err == nil {
			err = q.JobFinalize(ctx, j.ID)
		}
	}
	if err == nil {
		err = untilMirrors(ctx, q, func(j qmp.Job) (bool, error) { return j.Status == qmp.JobConcluded, nil })
	}
	if err != nil {
		return errors.Join(ErrSplit, err)
	}
	return m.whole(ctx, q, move)
}

// goOn lets a machine run that HoldMirror has paused.
func goOn(ctx context.Context, q *qmp.Monitor) error {
	st, err := q.QueryStatus(ctx)
	if err == nil && st.Status == qmp.RunStatePaused {
		err = q.Cont(ctx)
	}
	return err
}

// whole tells whether all disks of the machine's folder are those of the move.
func (m *Machine) whole(ctx context.Context, q *qmp.Monitor, move uint64) error {
	using, err := q.QueryBlock(ctx)
	if err != nil {
		return err
	}
	for _, i := range m.movable() {
		if !slices.ContainsFunc(using, func(n qmp.BlockNode) bool { return n.Name == movedNode(i, move) }) {
			return fmt.Errorf("%w: disk %d", ErrSplit, i)
		}
	}
	return nil
}

// endMirrors gives up the mirrors that are not over, and has QEMU forget all.
func endMirrors(ctx context.Context, q *qmp.Monitor) error {
	asked := map[string]bool{}
	return untilMirrors(ctx, q, func(j qmp.Job) (bool, error) {
		switch {
		case j.Status == qmp.JobConcluded:
			return false, q.JobDismiss(ctx, j.ID)
		case !asked[j.ID]:
			asked[j.ID] = true
			return false, q.JobCancel(ctx, j.ID)
		}
		return false, nil
	})
}

// closeUnused closes the images of disks that the machine does not use.
func closeUnused(ctx context.Context, q *qmp.Monitor) error {
	using, err := q.QueryBlock(ctx)
	if err != nil {
		return err
	}
	nodes, err := q.QueryBlockNodes(ctx)
	if err != nil {
		return err
	}
	has := func(list []qmp.BlockNode, name string) bool {
		return slices.ContainsFunc(list, func(n qmp.BlockNode) bool { return n.Name == name })
	}
	var errs []error
	for _, n := range nodes {
		name := strings.TrimSuffix(n.Name, "-file")
		switch {
		case !diskNode.MatchString(name) || has(using, name):
		case name == n.Name:
			errs = append(errs, q.BlockdevDel(ctx, name))
			if has(nodes, name+"-file") {
				errs = append(errs, q.BlockdevDel(ctx, name+"-file"))
			}
		case !has(nodes, name): // its format was not opened
			errs = append(errs, q.BlockdevDel(ctx, n.Name))
		}
	}
	return errors.Join(errs...)
}
