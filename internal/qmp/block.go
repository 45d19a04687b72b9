package qmp

import (
	"context"
)

// JobStatus is QEMU's word for what a job does (JobStatus in qapi/job.json).
type JobStatus string

// The states of a job that Quorate tells apart.
const (
	JobRunning   JobStatus = "running"
	JobReady     JobStatus = "ready"     // both ends are equal, and stay so
	JobWaiting   JobStatus = "waiting"   // it was told to complete
	JobPending   JobStatus = "pending"   // it is complete, and waits for JobFinalize
	JobConcluded JobStatus = "concluded" // it is over, and waits for JobDismiss
)

// Job is one of the answers to query-jobs. Progress is in bytes.
type Job struct {
	ID       string    `json:"id"`
	Type     string    `json:"type"`
	Status   JobStatus `json:"status"`
	Progress int64     `json:"current-progress"`
	Total    int64     `json:"total-progress"`
	Error    string    `json:"error"` // empty where it did not fail
}

// QueryJobs tells of all jobs that were not dismissed.
func (m *Monitor) QueryJobs(ctx context.Context) (jobs []Job, err error) {
	err = m.Execute(ctx, "query-jobs", nil, &jobs)
	return jobs, err
}

// Mirror is a copy of a block device to another node that is kept equal.
type Mirror struct {
	// Job names it; Device is the node that is copied, Target the one that is written.
	Job, Device, Target string
	// Speed is the most that it copies in a second, in bytes; 0: no limit.
	Speed int64
}

// BlockdevMirror begins to copy all of a device. What the guest writes meanwhile goes to
// both, so that it is done however much that is. It ends by JobComplete, JobFinalize,
// which has the guest go on with the target, and JobDismiss; a fault of either end ends
// it, and shows the guest nothing. From JobComplete to JobFinalize or JobCancel the
// guest's reads and writes wait.
func (m *Monitor) BlockdevMirror(ctx context.Context, b Mirror) error {
	return m.Execute(ctx, "blockdev-mirror", map[string]any{
		"job-id": b.Job, "device": b.Device, "target": b.Target, "speed": b.Speed, "sync": "full", "copy-mode": "write-blocking",
		"auto-finalize": false, "auto-dismiss": false, "on-source-error": "report", "on-target-error": "report",
	}, nil)
}

// JobComplete tells a job that is ready to come to its end.
func (m *Monitor) JobComplete(ctx context.Context, id string) error {
	return m.Execute(ctx, "job-complete", map[string]any{"id": id}, nil)
}

// JobFinalize lets what a pending job has prepared count.
func (m *Monitor) JobFinalize(ctx context.Context, id string) error {
	return m.Execute(ctx, "job-finalize", map[string]any{"id": id}, nil)
}

// JobCancel gives a job up; it is over some time after.
func (m *Monitor) JobCancel(ctx context.Context, id string) error {
	return m.Execute(ctx, "job-cancel", map[string]any{"id": id}, nil)
}

// JobDismiss lets QEMU forget a job that is concluded.
func (m *Monitor) JobDismiss(ctx context.Context, id string) error {
	return m.Execute(ctx, "job-dismiss", map[string]any{"id": id}, nil)
}

// BlockdevAdd opens a block node by QEMU's options (BlockdevOptions in
// qapi/block-core.json).
func (m *Monitor) BlockdevAdd(ctx context.Context, options map[string]any) error {
	return m.Execute(ctx, "blockdev-add", options, nil)
}

// BlockdevDel closes a block node that nothing uses.
func (m *Monitor) BlockdevDel(ctx context.Context, node string) error {
	return m.Execute(ctx, "blockdev-del", map[string]any{"node-name": node}, nil)
}

// BlockNode is a block node.
type BlockNode struct {
	Name string `json:"node-name"`
	File string `json:"file"`
}

// QueryBlock tells which block nodes the guest's devices use, without those that have
// no medium.
func (m *Monitor) QueryBlock(ctx context.Context) ([]BlockNode, error) {
	var devices []struct {
		Inserted BlockNode `json:"inserted"`
	}
	if err := m.Execute(ctx, "query-block", nil, &devices); err != nil {
		return nil, err
	}
	var out []BlockNode
	for _, d := range devices {
		if d.Inserted.Name != "" {
			out = append(out, d.Inserted)
		}
	}
	return out, nil
}

// QueryBlockNodes names all block nodes.
func (m *Monitor) QueryBlockNodes(ctx context.Context) (nodes []BlockNode, err error) {
	err = m.Execute(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes)
	return nodes, err
}
