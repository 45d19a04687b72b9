package validate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"quorate/cluster/api/apipb"
	"quorate/disk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is when the fakes' clock begins.
var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// fake is a node without a machine; its LUNs are in memory.
type fake struct {
	desc  *apipb.NodeDescription
	ahead time.Duration
	down  error
	luns  map[string]*disk.Memory // by URL
	holds map[string]string       // by URL
	cut   map[string]bool         // addresses that it does not reach
	slow  int64                   // µs of each read
	// answer changes what a step answers.
	answer func(q *apipb.ProbeLunRequest, res *apipb.ProbeLunResponse)
	mu     sync.Mutex
	steps  []string
}

// pair is two nodes that have nothing against them, and two LUNs.
func pair() (*fake, *fake) {
	q, v := disk.NewMemory(500<<20, 512), disk.NewMemory(8<<30, 512)
	q.SetInfo(func(i *disk.Info) {
		*i = disk.Info{URL: "iscsi://san/q/1", ID: "naa.1", Serial: "Q1", Product: "Q", Size: 500 << 20, BlockSize: 512}
	})
	v.SetInfo(func(i *disk.Info) {
		*i = disk.Info{URL: "iscsi://san/v/1", ID: "naa.2", Serial: "V1", Product: "V", Size: 8 << 30, BlockSize: 512}
	})
	var out []*fake
	for i, name := range []string{"s1", "s2"} {
		out = append(out, &fake{
			desc: &apipb.NodeDescription{
				Name: name, Version: "1", CpuVendor: "GenuineIntel", CpuFamily: "6", CpuModel: "Xeon", Accelerator: "kvm", QemuVersion: "7.2.22", ApiPort: 7400,
				CpuModels: []*apipb.CpuModel{{Name: "x86-64-v2"}, {Name: "Haswell-noTSX"}},
				Bridges:   &apipb.Bridges{Bridges: []*apipb.Bridge{{Name: fmt.Sprintf("br%d", i), Up: true}}},
				Addresses: []*apipb.Address{
					{Network: "192.168.0.0/24", Host: fmt.Sprintf("192.168.0.1%d", i)}, {Network: "192.168.101.0/24", Host: fmt.Sprintf("192.168.101.1%d", i)},
				},
			},
			luns: map[string]*disk.Memory{"iscsi://san/q/1": q, "iscsi://san/v/1": v}, holds: map[string]string{}, cut: map[string]bool{}, slow: 100,
		})
	}
	return out[0], out[1]
}

func (f *fake) now() time.Time { return start }

func (f *fake) Describe(context.Context) (*apipb.NodeDescription, error) {
	f.desc.ClockMs = start.Add(f.ahead).UnixMilli()
	return f.desc, f.down
}

func (f *fake) SanDiscover(context.Context, string) ([]*apipb.SanTarget, error) {
	return nil, errors.New("no route to host")
}

func (f *fake) SanList(context.Context) ([]*apipb.SanTarget, error) {
	t := &apipb.SanTarget{Iqn: "iqn.san"}
	for _, url := range slices.Sorted(maps.Keys(f.luns)) {
		i := f.luns[url].Info()
		t.Luns = append(t.Luns, &apipb.Lun{Url: url, Id: i.ID, Serial: i.Serial, Product: i.Product, Size: i.Size, BlockSize: int32(i.BlockSize), Holds: f.holds[url]})
	}
	return []*apipb.SanTarget{t}, nil
}

func (f *fake) Reach(_ context.Context, addrs []string) ([]*apipb.Reached, error) {
	var out []*apipb.Reached
	for _, a := range addrs {
		host, _, _ := net.SplitHostPort(a)
		if f.cut[host] {
			out = append(out, &apipb.Reached{Address: a, Error: "i/o timeout"})
		} else {
			out = append(out, &apipb.Reached{Address: a, Ok: true, RttUs: 200})
		}
	}
	return out, nil
}

func (f *fake) ProbeLun(ctx context.Context, q *apipb.ProbeLunRequest) (*apipb.ProbeLunResponse, error) {
	f.mu.Lock()
	f.steps = append(f.steps, q.Step)
	f.mu.Unlock()
	lun, res := f.luns[q.Url].Nexus(f.desc.Name), &apipb.ProbeLunResponse{}
	out := func(r disk.ReserveOut) error { return lun.Reserve(ctx, r) }
	key, typ := disk.Key(q.Key), disk.Type(q.Type)
	once := func() error {
		switch q.Step {
		case "latency":
			res.LatencyUs = []int64{f.slow, f.slow}
		case "register":
			return out(disk.ReserveOut{Action: disk.RegisterIgnore, ServiceKey: key})
		case "reserve":
			return out(disk.ReserveOut{Action: disk.ReserveAction, Key: key, Type: typ})
		case "preempt":
			return out(disk.ReserveOut{Action: disk.Preempt, Key: key, ServiceKey: disk.Key(q.Victim), Type: typ})
		case "clear":
			return out(disk.ReserveOut{Action: disk.Clear, Key: key})
		case "write":
			return lun.WriteAt(ctx, make([]byte, 512), 0)
		case "capabilities", "read-keys":
			have, err := lun.Reservations(ctx)
			for _, k := range have.Keys {
				res.Keys = append(res.Keys, uint64(k))
			}
			res.Type = uint32(have.Type)
			res.Reservations, res.Persist, res.PreemptAbort = true, true, true
			return err
		}
		return nil
	}
	err := once()
	for attention := (*disk.AttentionError)(nil); errors.As(err, &attention); {
		err = once()
	}
	if res.Conflict = errors.Is(err, disk.ErrConflict); err != nil && !res.Conflict {
		res.Error = err.Error()
	}
	if f.answer != nil {
		f.answer(q, res)
	}
	return res, nil
}

// validated runs all checks on nodes and returns the report.
func validated(t *testing.T, opt Options, nodes ...*fake) *apipb.Report {
	t.Helper()
	var members []Member
	for _, f := range nodes {
		members = append(members, Member{f.desc.Name, f})
	}
	opt.Session, opt.Now = "t", nodes[0].now
	var last *apipb.Report
	rep, err := Run(t.Context(), members, opt, func(u *apipb.ValidateUpdate) { last = u.Report })
	if err != nil || last != rep {
		t.Fatal(rep, err)
	}
	return rep
}
