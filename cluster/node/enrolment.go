package node

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"connectrpc.com/connect"

	"quorate/cluster"
	"quorate/cluster/api/apipb"
	"quorate/cluster/api/apipb/apipbconnect"
	"quorate/cluster/trust"
)

// Bounds of enrolment.
const (
	tokenLife = 10 * time.Minute
	// maxWrong is how many wrong proofs a secret outlives.
	maxWrong      = 5
	maxChallenges = 64
)

// enrolment is how an unjoined node lets a creator in: by its one-time secret,
// or by a key that was laid down on both.
type enrolment struct {
	self *trust.Self
	key  []byte // shared, or nil

	mu     sync.Mutex
	secret []byte
	wrong  int
	nonces map[string]time.Time // handed out and not yet used
	tokens map[string]time.Time
	joined string // why it is closed, or empty
}

var _ apipbconnect.EnrolmentServiceHandler = (*enrolment)(nil)

func newEnrolment(self *trust.Self, key []byte) (*enrolment, error) {
	secret, err := trust.NewSecret()
	return &enrolment{self: self, key: key, secret: secret, nonces: map[string]time.Time{}, tokens: map[string]time.Time{}}, err
}

// close refuses everyone from now on.
func (e *enrolment) close(why string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.joined = why
	e.secret = nil
	clear(e.tokens)
}

// reopen lets a creator in again, after the node has left its cluster.
func (e *enrolment) reopen() error {
	secret, err := trust.NewSecret()
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.joined, e.secret = "", secret
	return nil
}

// line is what root on the node hands to a creator.
func (e *enrolment) line(name, address string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.joined != "" {
		return "", errors.New(e.joined)
	}
	return trust.Line{Name: name, Address: address, Fingerprint: e.self.Fingerprint(), Secret: e.secret}.String(), nil
}

// Challenge implements the service.
func (e *enrolment) Challenge(_ context.Context, r *connect.Request[apipb.ChallengeRequest]) (*connect.Response[apipb.ChallengeResponse], error) {
	if len(r.Msg.CreatorNonce) != trust.SecretSize {
		return nil, connect.NewError(connect.CodeInvalidArgument, fmt.Errorf("the creator's nonce has %d bytes, want %d", len(r.Msg.CreatorNonce), trust.SecretSize))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.joined != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(e.joined))
	}
	nonce, err := trust.NewSecret()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	for n, at := range e.nonces {
		if now.Sub(at) > tokenLife || len(e.nonces) >= maxChallenges {
			delete(e.nonces, n)
		}
	}
	e.nonces[string(nonce)] = now
	res := &apipb.ChallengeResponse{
		NodeNonce: nonce, Version: cluster.Version,
		SecretProof: trust.Proof(e.secret, trust.NewNode, e.self.Fingerprint(), r.Msg.CreatorNonce, nonce),
	}
	if e.key != nil {
		res.KeyProof = trust.Proof(e.key, trust.NewNode, e.self.Fingerprint(), r.Msg.CreatorNonce, nonce)
	}
	return connect.NewResponse(res), nil
}

// Open implements the service.
func (e *enrolment) Open(_ context.Context, r *connect.Request[apipb.OpenRequest]) (*connect.Response[apipb.OpenResponse], error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.joined != "" {
		return nil, connect.NewError(connect.CodeFailedPrecondition, errors.New(e.joined))
	}
	if _, ok := e.nonces[string(r.Msg.NodeNonce)]; !ok {
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("the challenge is not one of this node's, or was used: begin again"))
	}
	delete(e.nonces, string(r.Msg.NodeNonce))
	want := func(secret []byte) bool {
		return secret != nil && trust.ProofValid(r.Msg.Proof, trust.Proof(secret, trust.Creator, e.self.Fingerprint(), r.Msg.CreatorNonce, r.Msg.NodeNonce))
	}
	if !want(e.secret) && !want(e.key) {
		if e.wrong++; e.wrong >= maxWrong {
			// Whoever guesses begins anew; the line that was printed is void.
			e.secret, _ = trust.NewSecret()
			e.wrong = 0
		}
		return nil, connect.NewError(connect.CodePermissionDenied, errors.New("the secret is wrong or was used: take a new line from `clusterctl node enroll` on that node"))
	}
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	token := hex.EncodeToString(b)
	e.tokens[token] = time.Now().Add(tokenLife)
	return connect.NewResponse(&apipb.OpenResponse{Token: token}), nil
}

// authorised tells whether a token is good.
func (e *enrolment) authorised(token string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.joined != "" {
		return connect.NewError(connect.CodeFailedPrecondition, errors.New(e.joined))
	}
	if until, ok := e.tokens[token]; !ok || time.Now().After(until) {
		return connect.NewError(connect.CodeUnauthenticated, errors.New("the enrolment is not open, or no longer: begin again"))
	}
	return nil
}
