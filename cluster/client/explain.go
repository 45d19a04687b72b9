package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
)

// Exit statuses of a tool, which scripts may rely on.
const (
	ExitDone     = 0 // what was asked for is done
	ExitFailed   = 1 // it failed
	ExitUsage    = 2 // wrong usage
	ExitNotFound = 3 // there is no such thing
	ExitRefused  = 4 // refused in this state
	ExitNoQuorum = 5 // the cluster has no quorum
	ExitInvalid  = 6 // validation found errors
	ExitTimeout  = 7 // timed out
)

// Explain says what an error of the API means: the exit status of a tool and a
// message for its user, without the protocol's own words. A nil error is
// ExitDone and an empty message.
func Explain(err error) (exitCode int, message string) {
	if err == nil {
		return ExitDone, ""
	}
	if text, ok := unreachable(err); ok {
		return ExitFailed, text
	}
	if lost := quorumLost(err); lost != nil {
		return ExitNoQuorum, fmt.Sprintf("no quorum: %s, %d of %d needed; see `clusterctl status` for what is missing, and bring it back",
			count(int(lost.Have), "vote"), lost.Needed, lost.Total)
	}
	var ce *connect.Error
	switch {
	case errors.As(err, &ce):
		message = strings.Replace(err.Error(), ce.Error(), ce.Message(), 1)
	case errors.Is(err, context.DeadlineExceeded):
		return ExitTimeout, timedOut
	case errors.Is(err, context.Canceled):
		return ExitFailed, interrupted
	default:
		return ExitFailed, err.Error()
	}
	switch ce.Code() {
	case connect.CodeInvalidArgument, connect.CodeOutOfRange:
		return ExitUsage, message
	case connect.CodeNotFound:
		return ExitNotFound, message
	case connect.CodeFailedPrecondition, connect.CodeAlreadyExists, connect.CodePermissionDenied:
		return ExitRefused, message
	case connect.CodeDeadlineExceeded:
		// clusterd is told of the limit, and may say so before we notice.
		if !connect.IsWireError(err) || message == context.DeadlineExceeded.Error() {
			message = timedOut
		}
		return ExitTimeout, message
	case connect.CodeCanceled:
		return ExitFailed, interrupted
	case connect.CodeUnimplemented:
		return ExitFailed, message + "; clusterd and this program are perhaps of different versions: see `clusterctl version`"
	default:
		return ExitFailed, message
	}
}

const (
	timedOut    = "timed out before the answer came: allow more with --timeout; a change that was asked for may still be made, see `clusterctl status`"
	interrupted = "interrupted; a change that was asked for may still be made, see `clusterctl status`"
)

// unreachable tells whether clusterd was not reached at all, and why.
func unreachable(err error) (string, bool) {
	const start = "start it with `systemctl start clusterd`, or name its socket with --socket"
	var op *net.OpError
	if connect.IsWireError(err) || !errors.As(err, &op) || op.Net != "unix" {
		return "", false
	}
	switch {
	case errors.Is(err, syscall.ENOENT):
		return "clusterd does not run on this node, its socket does not exist: " + start, true
	case errors.Is(err, syscall.ECONNREFUSED):
		return "clusterd does not run on this node, nobody answers on its socket: " + start, true
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return "clusterd's socket is for root alone: run this as root, as with sudo", true
	}
	return "", false
}

// quorumLost is the detail of an error for want of votes, or nil.
func quorumLost(err error) *apipb.QuorumLost {
	var ce *connect.Error
	if !errors.As(err, &ce) || ce.Code() != connect.CodeUnavailable {
		return nil
	}
	for _, d := range ce.Details() {
		if v, err := d.Value(); err == nil {
			if lost, ok := v.(*apipb.QuorumLost); ok {
				return lost
			}
		}
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
