package node

import (
	"context"
	"errors"
	"testing"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/keeper/keeperpb"
	"quorate/cluster/keeper/keeperpb/keeperpbconnect"
	"quorate/cluster/trust"
	"quorate/resources/vm"
)

// TestWhatIsInHandIsNotGone: a machine that is being started has no process yet, and is
// not said to be off.
func TestWhatIsInHandIsNotGone(t *testing.T) {
	host, err := vm.NewHost(vm.Options{RunDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{id: &trust.Identity{NodeID: 1}, ctx: t.Context(), log: zap.NewNop(), host: host, db: newReplica(), moves: &moves{}}
	m.patient.Store(&patience{})
	a := &nodeAgent{m: m, keeper: silentKeeper{}, storage: newStorageMoves(m), machines: map[string]*vm.Machine{}, failing: map[string]string{}}
	a.busy.begin(cluster.StartMachine{Group: "web"}.Lane())
	if l := a.look(t.Context()); !l.Moving["web"] || len(l.Moving) != 1 {
		t.Errorf("while it is started: %v", l.Moving)
	}
	a.busy.end(cluster.StartMachine{Group: "web"}.Lane())
	if l := a.look(t.Context()); len(l.Moving) != 0 {
		t.Errorf("afterwards: %v", l.Moving)
	}
}

// silentKeeper is a noded that says nothing.
type silentKeeper struct {
	keeperpbconnect.KeeperServiceClient
}

func (silentKeeper) Status(context.Context, *connect.Request[keeperpb.StatusRequest]) (*connect.Response[keeperpb.StatusResponse], error) {
	return nil, connect.NewError(connect.CodeUnavailable, errors.New("nobody is there"))
}
