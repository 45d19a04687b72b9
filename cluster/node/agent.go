package node

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/csv"
	"quorate/resources/vm"
)

// Bounds of what the agent asks of others on its node.
const (
	keeperTimeout = 2 * time.Second
	qmpTimeout    = time.Second
	// currentTimeout is for how long is waited to learn what is committed, and
	// currentRetry how long until that is tried again.
	currentTimeout = time.Second
	currentRetry   = 20 * time.Millisecond
)

// keeperHTTP is the way to noded's socket.
func keeperHTTP(socket string) *http.Client { return keeperpb.SocketClient(socket) }

// nodeAgent does on this node what its replica says.
type nodeAgent struct {
	m      *member
	keeper keeperpbconnect.KeeperServiceClient
	busy   lanes
	// storage are the moves between volumes.
	storage *storageMoves
	// starting are the machines that are being started.
	starting starts
	wake     chan struct{}

	mu       sync.Mutex
	keys     map[string]uint64 // by volume: the key it was attached with
	machines map[string]*vm.Machine
	failing  map[string]string // by lane: the last complaint, said once
}

func newAgent(m *member) *nodeAgent {
	return &nodeAgent{m: m, keeper: m.n.keeper(), storage: newStorageMoves(m), wake: make(chan struct{}, 1), keys: map[string]uint64{}, machines: map[string]*vm.Machine{}, failing: map[string]string{}}
}

// run looks and acts until the member ends, from when its replica has all that was
// committed before: what a restarted one reads back from its log at first is of before,
// and by that what this node has would be stopped or killed.
func (a *nodeAgent) run() {
	var wg sync.WaitGroup
	defer wg.Wait()
	for a.m.ctx.Err() == nil && !a.current() {
		select {
		case <-a.m.ctx.Done():
		case <-time.After(currentRetry):
		}
	}
	ticker := time.NewTicker(agentInterval)
	defer ticker.Stop()
	for {
		next := a.m.db.next()
		local := a.look(a.m.ctx)
		var actions []cluster.Action
		a.m.db.read(func(d *cluster.Database) {
			if d.State().Cluster != nil {
				actions = d.Act(local)
			}
		})
		for _, act := range actions {
			if !a.busy.begin(act.Lane()) {
				continue
			}
			wg.Go(func() {
				err := a.do(a.m.ctx, act)
				a.complain(act.Lane(), err)
				a.busy.end(act.Lane())
				if err == nil {
					a.poke()
				}
			})
		}
		select {
		case <-a.m.ctx.Done():
			return
		case <-next:
		case <-ticker.C:
		case <-a.wake:
		}
	}
}

// current tells whether the replica has all that is committed.
func (a *nodeAgent) current() bool {
	ctx, cancel := context.WithTimeout(a.m.ctx, currentTimeout)
	defer cancel()
	return a.m.barrier(ctx) == nil
}

// poke makes the agent look again at once.
func (a *nodeAgent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// complain logs a failure once, until it is another or over. What the database
// refuses is none.
func (a *nodeAgent) complain(lane string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var refused *RefusedError
	if err == nil || errors.As(err, &refused) || a.m.ctx.Err() != nil {
		delete(a.failing, lane)
		return
	}
	if a.failing[lane] != err.Error() {
		a.failing[lane] = err.Error()
		a.m.log.Warn("not done", zap.String("what", lane), zap.Error(err))
	}
}

// look gathers what the node sees of itself.
func (a *nodeAgent) look(ctx context.Context) cluster.Local {
	l := cluster.Local{Node: a.m.id.NodeID, Ticked: a.m.ticked(), WallMS: time.Now().UnixMilli(), Volumes: map[string]cluster.LocalVolume{}, Machines: map[string]cluster.LocalMachine{}}
	kctx, cancel := context.WithTimeout(ctx, keeperTimeout)
	defer cancel()
	res, err := a.keeper.Status(kctx, connect.NewRequest(&keeperpb.StatusRequest{}))
	a.complain("noded", err)
	if err == nil {
		st := res.Msg
		l.Keeper, l.KeeperState, l.KeeperEpoch, l.Lease = true, st.State, st.NodeEpoch, st.Lease.GetValid()
		l.KeeperPeers, l.Addresses = st.LeasePeers, st.Addresses
		l.KeeperLease, l.KeeperBeat = time.Duration(st.LeaseMs)*time.Millisecond, time.Duration(st.HeartbeatMs)*time.Millisecond
		l.LeaseSpan = time.Duration(st.Lease.GetSpanMs()) * time.Millisecond
		a.mu.Lock()
		for _, v := range st.Volumes {
			l.Volumes[v.Name] = localVolume(v, a.keys[v.Name])
		}
		a.mu.Unlock()
	}
	// Before the processes: what is under way with a machine that has none may be making
	// it. Nothing begins meanwhile.
	inHand := a.busy.under(cluster.StartMachine{}.Lane())
	found, busy, err := a.m.host.Find()
	a.complain("machines", err)
	// After the processes: a migration says that it has a machine in its hands
	// before it makes the process.
	l.Moving = a.m.moves.moving()
	for _, name := range slices.Concat(busy, a.storage.held(), inHand) {
		l.Moving[name] = true
	}
	if err == nil {
		for _, mc := range a.remember(found) {
			if slices.Contains(inHand, mc.Name()) || a.busy.has(cluster.StartMachine{Group: mc.Name()}.Lane()) {
				// An action has it in its hands, and its monitor.
				l.Moving[mc.Name()] = true
				continue
			}
			l.Machines[mc.Name()] = a.lookMachine(ctx, mc)
		}
	}
	return l
}

func localVolume(v *keeperpb.VolumeStatus, key uint64) cluster.LocalVolume {
	lv := cluster.LocalVolume{State: v.State, Reason: v.Reason, Epoch: v.Epoch, Coordinating: v.Coordinator, Size: v.Size, Used: v.Used, Free: v.Free, Key: key, Released: v.ReleasedEpoch, Session: v.Session, Pauses: pausesOf(v.Pauses)}
	if v.State == csv.Paused.String() && v.Reason == string(csv.ReasonPathLost) {
		lv.State = cluster.PathLost
	}
	if v.Fault != "" {
		lv.Reason = v.Fault
	}
	for _, o := range v.Owing {
		if lv.Owing == nil {
			lv.Owing = map[uint64]time.Duration{}
		}
		lv.Owing[o.Node] = time.Duration(o.Ms) * time.Millisecond
	}
	return lv
}

// pausesOf is what the database keeps of pauses: nothing where there were none.
func pausesOf(p *keeperpb.Pauses) *pb.Pauses {
	if p.GetLongestMs() == 0 {
		return nil
	}
	return &pb.Pauses{Counts: p.Counts, LastMs: p.LastMs, LongestMs: p.LongestMs}
}

// remember takes in which machines are here. A handle is kept while its process
// lives: QEMU serves one client on its monitor.
func (a *nodeAgent) remember(found []*vm.Machine) []*vm.Machine {
	a.mu.Lock()
	defer a.mu.Unlock()
	here := map[string]*vm.Machine{}
	var out []*vm.Machine
	for _, mc := range found {
		if old := a.machines[mc.Name()]; old != nil && old.PID() == mc.PID() {
			mc = old
		}
		here[mc.Name()] = mc
		out = append(out, mc)
	}
	for name, old := range a.machines {
		if here[name] != old {
			_ = old.Close()
		}
	}
	a.machines = here
	return out
}

// adopt makes mc the handle of a machine that was just started, and reaps its
// process when that ends.
func (a *nodeAgent) adopt(mc *vm.Machine) {
	a.mu.Lock()
	if old := a.machines[mc.Name()]; old != nil && old != mc {
		_ = old.Close()
	}
	a.machines[mc.Name()] = mc
	a.mu.Unlock()
	go func() {
		if mc.Wait(a.m.ctx) == nil {
			a.poke()
		}
	}()
}

// machine is the handle of a machine that is here, or nil.
func (a *nodeAgent) machine(name string) *vm.Machine {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.machines[name]
}

func (a *nodeAgent) lookMachine(ctx context.Context, mc *vm.Machine) cluster.LocalMachine {
	ctx, cancel := context.WithTimeout(ctx, qmpTimeout)
	defer cancel()
	lm := cluster.LocalMachine{Incoming: mc.Incoming(), CPUModel: mc.Settings().CPUModel, CPUFrom: mc.Settings().CPUFrom, Networks: networksOf(mc.Settings())}
	st, err := mc.Status(ctx)
	if err != nil {
		lm.Hung, lm.Running = true, true // what cannot be asked is not touched
		return lm
	}
	lm.Running = st.Running
	if !st.Running {
		lm.Paused = string(st.Status)
	}
	return lm
}
