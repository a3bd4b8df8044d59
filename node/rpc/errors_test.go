package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// Every kind of failure has a code: a new one without a row would come out as code zero.
func TestEveryKindHasACode(t *testing.T) {
	t.Parallel()
	for k := fault.Internal; k <= fault.Limit; k++ {
		c, ok := codes[k]
		if !ok || c.connect == 0 || c.http < 400 {
			t.Errorf("kind %d: %+v", k, c)
		}
	}
	if len(codes) != int(fault.Limit)+1 {
		t.Errorf("%d rows for %d kinds", len(codes), fault.Limit+1)
	}
}

func TestToConnect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		code   connect.Code
		text   string
		reason string
	}{
		{fault.New(fault.NotFound, "unknown_x", "no x").Hint("look"), connect.CodeNotFound, "no x", "unknown_x"},
		{fmt.Errorf("stage a: %w", fault.New(fault.Invalid, "bad", "bad thing")), connect.CodeInvalidArgument, "stage a: bad thing", "bad"},
		{errors.New("secret path /root/x"), connect.CodeInternal, "the node failed; its log says why", "internal"},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "the request's time is over", "deadline_exceeded"},
		{fmt.Errorf("x: %w", context.Canceled), connect.CodeCanceled, "the request was canceled", "canceled"},
		{fault.New(fault.Unavailable, "leader_lost", "gone: %w", connect.NewError(connect.CodeCanceled, errors.New("reset"))), connect.CodeUnavailable, "gone: canceled: reset", "leader_lost"},
		{fault.New(fault.Limit, "time_limit", "too slow"), connect.CodeDeadlineExceeded, "too slow", "time_limit"},
		{fault.New(fault.Limit, "memory_limit", "too big"), connect.CodeResourceExhausted, "too big", "memory_limit"},
	} {
		var ce *connect.Error
		if !errors.As(toConnect(c.err), &ce) {
			t.Fatalf("%v is no connect error", c.err)
		}
		if ce.Code() != c.code || ce.Message() != c.text {
			t.Errorf("%v: %v %q", c.err, ce.Code(), ce.Message())
		}
		v, err := ce.Details()[0].Value()
		if err != nil {
			t.Fatal(err)
		}
		if d := v.(*wattlev1.ErrorDetail); d.Reason != c.reason {
			t.Errorf("%v: reason %s", c.err, d.Reason)
		}
	}
	if toConnect(nil) != nil {
		t.Error("no error became one")
	}
}

func TestWriteHTTP(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	writeHTTP(w, fault.New(fault.Exhausted, "overloaded", "too much").Hint("later").With("retry_after_ms", 1500))
	if w.Code != 429 || w.Header().Get("Retry-After") != "2" || w.Header().Get("Wattle-Error") != "overloaded" || !strings.Contains(w.Body.String(), "too much\nlater") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}
