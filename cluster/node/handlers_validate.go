package node

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"quorate/cluster/api/apipb"
)

// Validate implements the service.
func (h *handlers) Validate(context.Context, *connect.Request[apipb.ValidateRequest], *connect.ServerStream[apipb.ValidateUpdate]) error {
	return connect.NewError(connect.CodeUnimplemented, errors.New("validation is not there yet"))
}
