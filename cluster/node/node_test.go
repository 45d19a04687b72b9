package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	pb "quorate/cluster/clusterpb"
	"quorate/cluster/trust"
)

func TestOptionsListAllFaults(t *testing.T) {
	o := Options{Name: "-bad", StateDir: "relative", Listen: "nowhere", KeeperPort: 70000, Profile: "hasty"}
	o.EnsureDefaults()
	err := o.Validate()
	for _, want := range []string{"-bad", "relative", "nowhere", "70000", "hasty"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in %v", want, err)
		}
	}
	good := Options{Name: "s1"}
	good.EnsureDefaults()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}

func addressed(hosts ...string) *pb.Node {
	n := &pb.Node{}
	for _, h := range hosts {
		n.Addresses = append(n.Addresses, &pb.NodeAddress{Network: h[:strings.LastIndex(h, ".")] + ".0/24", Host: h})
	}
	return n
}

func TestMachinesAreSentOverANetworkThatBothHave(t *testing.T) {
	s1, s2 := addressed("192.168.0.11", "192.168.100.11", "192.168.101.11"), addressed("192.168.0.12", "192.168.100.12", "192.168.101.12")
	s1.Id, s2.Id, s2.Name = 1, 2, "s2"
	db := cluster.Found(&pb.Cluster{Id: "c", Name: "c", Address: "192.168.100.200"}, s1)
	db.Apply(&pb.Command{Id: 1, Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: s2}}}, 1)
	db.Apply(&pb.Command{Id: 2, Kind: &pb.Command_PortalAdd{PortalAdd: &pb.PortalAdd{Portal: "192.168.0.1:3260"}}}, 1)
	s := db.State()
	ways := func(from, to *pb.Node) string {
		var out []string
		for _, w := range migrationRoutes(s, from, to) {
			out = append(out, w.address)
		}
		return strings.Join(out, " ")
	}
	if got := ways(s1, s2); got != "192.168.101.12 192.168.100.12" {
		t.Errorf("machines are sent to %s, want the network that is not the clients' first", got)
	}
	if got := ways(addressed("192.168.100.11"), s2); got != "192.168.100.12" {
		t.Errorf("machines are sent to %s, want the only network that both have", got)
	}
	if got := ways(addressed("10.0.0.1"), s2); got != "" {
		t.Errorf("machines are sent to %s, which the source does not share", got)
	}
	// Where the networks have an order, they are taken in it, and no others.
	for subnet, order := range map[string]uint32{"192.168.100.0/24": 2, "192.168.101.0/24": 0} {
		s.Networks[subnet] = &pb.Network{Subnet: subnet, Name: subnet, Role: pb.NetworkRole_NETWORK_ROLE_CLUSTER, MigrationOrder: order}
	}
	if got := ways(s1, s2); got != "192.168.100.12" {
		t.Errorf("machines are sent to %s, want the one that is meant for it", got)
	}
	s.Networks["192.168.101.0/24"].MigrationOrder = 1
	if got := ways(s1, s2); got != "192.168.101.12 192.168.100.12" {
		t.Errorf("machines are sent to %s, want them in their order", got)
	}
}

// TestLostPathsAreThoseOfANodeThatLives: a network is complained of where another
// one leads to the node, and until it has been heard there again.
func TestLostPathsAreThoseOfANodeThatLives(t *testing.T) {
	s1, s2 := addressed("192.168.100.11", "192.168.101.11"), addressed("192.168.100.12", "192.168.101.12")
	s1.Id, s2.Name = 1, "s2"
	db := cluster.Found(&pb.Cluster{Id: "c", Name: "c"}, s1)
	db.Apply(&pb.Command{Id: 1, Kind: &pb.Command_NodeAdd{NodeAdd: &pb.NodeAdd{Node: s2}}}, 1)
	db.Apply(&pb.Command{Id: 2, Kind: &pb.Command_NodeUp{NodeUp: &pb.NodeUp{Node: 2}}}, 1)
	now := time.Now()
	p, _ := cluster.ProfileNamed("normal")
	look := func(a, b time.Duration) []*pb.Unreached {
		return unreached(db.State(), s1, map[uint64]map[string]time.Time{2: {"192.168.100.12:7400": now.Add(-a), "192.168.101.12:7400": now.Add(-b)}}, now, p)
	}
	if got := look(0, 0); len(got) != 0 {
		t.Fatalf("all is well, and %v is lost", got)
	}
	if got := look(2*p.Dead, 2*p.Dead); len(got) != 0 {
		t.Fatalf("the node is dead, and %v is lost", got)
	}
	got := look(0, 2*p.Dead)
	if len(got) != 1 || got[0].Network != "192.168.101.0/24" || got[0].Node != 2 {
		t.Fatalf("lost is %v", got)
	}
	s1.Unreached = got
	if got := look(0, p.Dead); len(got) != 1 {
		t.Fatal("it is whole again without having been heard")
	}
	if got := look(0, 0); len(got) != 0 {
		t.Fatalf("it was heard, and %v is lost", got)
	}
}

func TestErrorsCarryTheCodesThatToolsTellApart(t *testing.T) {
	refused := func(c pb.Code) error { return &RefusedError{&pb.Result{Code: c, Message: "no"}} }
	for name, c := range map[string]struct {
		err  error
		code connect.Code
		text string
	}{
		"not there":          {refused(pb.Code_CODE_NOT_FOUND), connect.CodeNotFound, "no"},
		"not in this state":  {fmt.Errorf("start: %w", refused(pb.Code_CODE_REFUSED)), connect.CodeFailedPrecondition, "start: no"},
		"no quorum":          {&QuorumError{Votes{1, 2, 3}}, connect.CodeUnavailable, "1 of 3 votes are there, 2 are needed"},
		"late":               {context.DeadlineExceeded, connect.CodeDeadlineExceeded, ""},
		"another's, wrapped": {fmt.Errorf("node s2: %w", connect.NewError(connect.CodePermissionDenied, errors.New("secret"))), connect.CodePermissionDenied, "node s2: secret"},
		"anything":           {errors.New("x"), connect.CodeUnknown, "x"},
	} {
		got := codes(c.err)
		if connect.CodeOf(got) != c.code || !strings.Contains(got.Error(), c.text) {
			t.Errorf("%s: %v, want %v with %q", name, got, c.code, c.text)
		}
	}
	var ce *connect.Error
	if errors.As(codes(&QuorumError{Votes{1, 2, 3}}), &ce); len(ce.Details()) != 1 {
		t.Error("the votes are not with the error")
	}
}

// open plays the creator's side against an enrolment.
func open(t *testing.T, e *enrolment, fingerprint string, secret []byte) error {
	t.Helper()
	nonce, _ := trust.NewSecret()
	ch, err := e.Challenge(t.Context(), connect.NewRequest(&apipb.ChallengeRequest{CreatorNonce: nonce}))
	if err != nil {
		return err
	}
	res, err := e.Open(t.Context(), connect.NewRequest(&apipb.OpenRequest{
		NodeNonce: ch.Msg.NodeNonce, CreatorNonce: nonce, Proof: trust.Proof(secret, trust.Creator, fingerprint, nonce, ch.Msg.NodeNonce),
	}))
	if err != nil {
		return err
	}
	if err := e.authorised("another token"); err == nil {
		t.Error("another token passes")
	}
	return e.authorised(res.Msg.Token)
}

func TestEnrolmentLetsInWhoKnowsTheSecret(t *testing.T) {
	self, err := trust.OpenSelf(t.TempDir(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := trust.NewSecret()
	e, err := newEnrolment(self, key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := e.line("s1", "192.168.100.11:7400")
	if err != nil {
		t.Fatal(err)
	}
	line, err := trust.ParseLine(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := open(t, e, line.Fingerprint, line.Secret); err != nil {
		t.Errorf("by the line: %v", err)
	}
	if err := open(t, e, line.Fingerprint, key); err != nil {
		t.Errorf("by the shared key: %v", err)
	}
	wrong, _ := trust.NewSecret()
	for range maxWrong {
		if err := open(t, e, line.Fingerprint, wrong); err == nil {
			t.Fatal("a wrong secret passes")
		}
	}
	if err := open(t, e, line.Fingerprint, line.Secret); err == nil {
		t.Error("after so many guesses the line still passes")
	}
	if err := open(t, e, strings.Repeat("0", 64), key); err == nil {
		t.Error("a proof for another connection passes: someone sits between the two")
	}
	e.close("it is in a cluster already")
	if err := open(t, e, line.Fingerprint, key); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a joined node: %v", err)
	}
}

func TestChallengeIsUsedOnce(t *testing.T) {
	self, err := trust.OpenSelf(t.TempDir(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := trust.NewSecret()
	e, err := newEnrolment(self, key)
	if err != nil {
		t.Fatal(err)
	}
	nonce, _ := trust.NewSecret()
	ch, err := e.Challenge(t.Context(), connect.NewRequest(&apipb.ChallengeRequest{CreatorNonce: nonce}))
	if err != nil {
		t.Fatal(err)
	}
	req := &apipb.OpenRequest{NodeNonce: ch.Msg.NodeNonce, CreatorNonce: nonce, Proof: trust.Proof(key, trust.Creator, self.Fingerprint(), nonce, ch.Msg.NodeNonce)}
	if _, err := e.Open(t.Context(), connect.NewRequest(req)); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Open(t.Context(), connect.NewRequest(req)); err == nil {
		t.Fatal("a recorded answer passes again")
	}
}

// TestOnePortTellsProtocolsApart: HTTP for those who enrol, streams by ALPN.
func TestOnePortTellsProtocolsApart(t *testing.T) {
	self, err := trust.OpenSelf(t.TempDir(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	streams := make(chan string, 1)
	s := newServer(l, self.ServerTLS(alpnEnroll, alpnRaft), zap.NewNop(), func(proto string, conn *tls.Conn) {
		conn.Close()
		streams <- proto
	})
	web := tlsHTTP(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "enrol here") }))
	go web.Serve(s.queue(alpnEnroll))
	s.run()
	defer s.close()
	defer web.Close()
	dial := func(proto string) (*tls.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), trust.PinnedTLS(self.Fingerprint(), proto))
	}
	c, err := dial(alpnRaft)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := <-streams; got != alpnRaft {
		t.Errorf("the stream is %q", got)
	}
	hc := &http.Client{Transport: &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return dial(alpnEnroll) }}}
	res, err := hc.Get("https://s1/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); string(body) != "enrol here" {
		t.Errorf("got %q", body)
	}
	if _, err := dial("gopher"); err == nil {
		t.Error("a protocol that nobody speaks is taken")
	}
	hc.CloseIdleConnections()
}
