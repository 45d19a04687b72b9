package disk

import "context"

// Sessioned is a LUN that is reached through sessions which can be lost and
// made again.
type Sessioned interface {
	// Session names the session there is, or was last: never zero, never the
	// same twice in the life of the LUN.
	Session() uint64
}

type sessionKey struct{}

// OnSession binds the commands made with the returned context to one session:
// on any other they are not performed and return the AttentionError 29/00. By
// it the gate keeps a command that passed it before the session was lost from
// being performed on the next one. Session zero binds to nothing.
func OnSession(ctx context.Context, session uint64) context.Context {
	if session == 0 {
		return ctx
	}
	return context.WithValue(ctx, sessionKey{}, session)
}

// SessionOf returns the session that a command is bound to, or zero.
func SessionOf(ctx context.Context) uint64 {
	s, _ := ctx.Value(sessionKey{}).(uint64)
	return s
}
