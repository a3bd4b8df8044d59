package host

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Limits bound one call. A zero field means: what the next wider Limits say.
type Limits struct {
	// Memory is how large the guest's linear memory may grow, in bytes.
	Memory uint64
	// Fuel bounds what the guest computes, in the unit of Stats.Fuel.
	Fuel uint64
	// Stack bounds the guest's call stack, in bytes of machine code's frames, as the engine provides it: twice as much each time
	// there is too little. It is looked at every tenth of a millisecond or so, so that a guest may exceed it by a few MiB before it is
	// stopped. More than 40 MiB counts as so much, which is what the engine can do.
	Stack uint64
	// Concurrency is how many calls of the function may run at a time on this host, for the same service and
	// version; 0 all the way is any number.
	Concurrency uint32
	// Timeout is how long the call may take, waiting in callbacks included.
	Timeout time.Duration
	// Output bounds what the guest writes and emits together, in bytes.
	Output uint64
	// Log bounds the guest's log lines, in bytes. It never fails a call: later lines are dropped and a last
	// one says so, since a chatty function that did its work is not an error.
	Log uint64
}

var builtinLimits = Limits{Memory: 256 << 20, Fuel: math.MaxInt64, Stack: 2 << 20, Timeout: 30 * time.Second, Output: 64 << 20, Log: 1 << 20}

// maxStack is below what wazero's call stacks may become, so that it is the limit that is reached and named.
const maxStack = 40 << 20

// maxTableEntries bounds the tables of a module together.
const maxTableEntries = 1 << 20

// Or returns l with its zero fields taken from d.
func (l Limits) Or(d Limits) Limits {
	if l.Memory == 0 {
		l.Memory = d.Memory
	}
	if l.Fuel == 0 {
		l.Fuel = d.Fuel
	}
	l.Fuel = min(l.Fuel, math.MaxInt64)
	if l.Stack == 0 {
		l.Stack = d.Stack
	}
	l.Stack = min(l.Stack, maxStack)
	if l.Concurrency == 0 {
		l.Concurrency = d.Concurrency
	}
	if l.Timeout <= 0 {
		l.Timeout = d.Timeout
	}
	if l.Output == 0 {
		l.Output = d.Output
	}
	if l.Log == 0 {
		l.Log = d.Log
	}
	return l
}

func memoryFault(limit uint64, format string, args ...any) *fault.Error {
	return fault.New(fault.Limit, "memory_limit", format, args...).
		With("limit", "memory_bytes").With("value", limit).
		Hint("raise the function's limit (wattle push --memory), or let it keep less in memory")
}

func timeFault(limit time.Duration) *fault.Error {
	return fault.New(fault.Limit, "time_limit", "the function ran longer than its limit of %v", limit).
		With("limit", "timeout").With("value", limit).
		Hint("raise the function's timeout (wattle push --timeout), or give it less to do in one call")
}

// deadlineFault is for calls whose caller set a deadline that passed.
func deadlineFault(ctx context.Context) *fault.Error {
	f := fault.New(fault.Timeout, "deadline_exceeded", "the caller's deadline passed before the function was done")
	f.Cause = errors.Join(context.DeadlineExceeded, context.Cause(ctx))
	return f
}

func fuelFault(limit uint64) *fault.Error {
	return fault.New(fault.Limit, "fuel_limit", "the function used more than its limit of %d units of fuel", limit).
		With("limit", "fuel").With("value", limit).
		Hint("raise the function's limit (wattle push --fuel), or give it less to do in one call")
}

func stackFault(limit uint64) *fault.Error {
	return fault.New(fault.Limit, "stack_limit", "the function's calls are nested deeper than its limit of %d bytes of call stack", limit).
		With("limit", "stack_bytes").With("value", limit).
		Hint("end the recursion earlier, or raise the function's limit (wattle push --stack-bytes)")
}

func outputFault(limit uint64) *fault.Error {
	return fault.New(fault.Limit, "output_limit", "the function wrote more than its limit of %d bytes of output", limit).
		With("limit", "output_bytes").With("value", limit).
		Hint("raise the function's limit (wattle push --output-bytes), or let it write less")
}
