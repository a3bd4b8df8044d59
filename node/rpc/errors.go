package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// codes is the one place that says which code a client sees for which kind of failure.
var codes = map[fault.Kind]struct {
	connect connect.Code
	http    int
}{
	fault.Internal:     {connect.CodeInternal, http.StatusInternalServerError},
	fault.Invalid:      {connect.CodeInvalidArgument, http.StatusBadRequest},
	fault.NotFound:     {connect.CodeNotFound, http.StatusNotFound},
	fault.Exists:       {connect.CodeAlreadyExists, http.StatusConflict},
	fault.Precondition: {connect.CodeFailedPrecondition, http.StatusConflict},
	fault.Denied:       {connect.CodePermissionDenied, http.StatusForbidden},
	fault.Exhausted:    {connect.CodeResourceExhausted, http.StatusTooManyRequests},
	fault.Unavailable:  {connect.CodeUnavailable, http.StatusServiceUnavailable},
	fault.Canceled:     {connect.CodeCanceled, 499},
	fault.Timeout:      {connect.CodeDeadlineExceeded, http.StatusGatewayTimeout},
	fault.Corrupt:      {connect.CodeDataLoss, http.StatusInternalServerError},
	// The function answered, with an error of its own: not a failure of the system, hence not "internal".
	fault.Guest: {connect.CodeUnknown, http.StatusUnprocessableEntity},
	fault.Trap:  {connect.CodeAborted, http.StatusBadGateway},
	fault.Limit: {connect.CodeResourceExhausted, http.StatusUnprocessableEntity},
}

// code returns the row for an error. A call stopped at its time limit is late like any other.
func code(e *fault.Error) (connect.Code, int) {
	kind := e.Kind
	if e.Reason == "time_limit" {
		kind = fault.Timeout
	}
	return codes[kind].connect, codes[kind].http
}

// meaning returns err as the kind of error clients can act on. What has no meaning to them is logged and kept from them.
func meaning(err error) *fault.Error {
	if e := fault.As(err); e != nil {
		return e
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fault.New(fault.Timeout, "deadline_exceeded", "the request's time is over")
	case errors.Is(err, context.Canceled):
		return fault.New(fault.Canceled, "canceled", "the request was canceled")
	}
	slog.Error("request failed", "error", err)
	return fault.New(fault.Internal, "internal", "the node failed; its log says why")
}

// toConnect turns any error into what a client gets.
func toConnect(err error) error {
	if err == nil {
		return nil
	}
	// What a node makes of the failure of another counts, not what that looked like on the wire.
	var already *connect.Error
	if fault.As(err) == nil && errors.As(err, &already) {
		return err
	}
	e := meaning(err)
	// The outer text is kept: it says where.
	text := err.Error()
	if fault.As(err) == nil || e.Kind == fault.Internal {
		text = e.Message
	}
	c, _ := code(e)
	out := connect.NewError(c, errors.New(text))
	if d, err := connect.NewErrorDetail(&wattlev1.ErrorDetail{Reason: e.Reason, Hint: e.Help, Fields: e.Fields, Stats: statsOf(err)}); err == nil {
		out.AddDetail(d)
	}
	return out
}

// writeHTTP answers a plain HTTP request with an error: the text, and what else there is in headers.
func writeHTTP(w http.ResponseWriter, err error) {
	e := meaning(err)
	text := e.Message
	if e.Help != "" {
		text += "\n" + e.Help
	}
	h := w.Header()
	h.Set("Wattle-Error", e.Reason)
	setStats(h, statsOf(err))
	if ms, err := strconv.Atoi(e.Fields["retry_after_ms"]); err == nil {
		h.Set("Retry-After", strconv.Itoa((ms+999)/1000))
	}
	_, status := code(e)
	http.Error(w, text, status)
}

// translate is an interceptor that applies toConnect to everything handlers return.
type translate struct{}

func (translate) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		res, err := next(ctx, req)
		if err != nil {
			return nil, toConnect(err)
		}
		return res, nil
	}
}

func (translate) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (translate) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, conn connect.StreamingHandlerConn) error {
		return toConnect(next(ctx, conn))
	}
}
