package host

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/trace"
)

// Call says what to run and with what. It is not changed, and may be used again, also at the same time where its callbacks may.
type Call struct {
	Function string
	// Input is what the guest reads; nil is empty.
	Input Input
	// Output gets what the guest writes. It must not keep the slices it is given. nil counts and discards.
	Output io.Writer
	// Emit gets batches of records, found well-formed, valid only until it returns. nil refuses them.
	Emit func(batch []byte) error
	// Log gets the guest's log lines, without line ends and in valid UTF-8; may be nil.
	Log func(level Level, line string)
	// Context is what the guest is told about the call. The host fills in the deadline, and the function
	// where it is empty.
	Context Context
	Limits  Limits
	// Fresh runs the call in an instance made for it, in which the module's start runs first, and not in one
	// that begins with the state after it.
	Fresh bool
	// Nested says that the caller is a callback of another call. Such a call does not wait for memory, which the
	// outer one may hold.
	Nested bool
	// Within says that, beyond that, the outer call has a turn to compute and waits for this one.
	Within bool
	// Mounts are the folders that the guest finds in its file system. A call with mounts runs in a fresh instance.
	Mounts []Mount
	// Capabilities are what the function may do beyond computing; nil is nothing.
	Capabilities Capabilities
}

// Context is what a guest can learn about its call, beside its deadline and its trace, which come with the context.Context.
type Context struct {
	Service  string
	Version  uint64
	Function string
	Job      string
	Stage    string
	Task     uint32
	Attempt  uint32
	Input    string // "bytes", "split" or "groups"; empty is "bytes"
	Params   map[string]string
}

// Stats tell what a call took. They are filled for calls that fail, too.
type Stats struct {
	Duration    time.Duration
	PeakMemory  uint64 // the largest size of the linear memory, in bytes
	OutputBytes uint64 // written and emitted
	// Fuel is what the call computed, in WebAssembly instructions or so: the same for the same module, input and
	// answers of the host, on every node. The module's start does not count.
	Fuel uint64
	// LogDropped says that the log limit was reached, and lines were dropped.
	LogDropped bool
}

// running is the state of one call, for the host's functions. Its slot uses it for one call after another.
type running struct {
	// Of the slot:
	instance instance
	memory   *guestMemory
	turns    *turns
	abi      string

	// Of the call:
	ctx         context.Context
	call        *Call
	limits      Limits
	function    string
	deadline    time.Time
	ownDeadline bool // it is that of limits, not that of ctx

	input   reader
	context []byte // the reply of host_call 1, once it was asked for
	name    []byte // that of host_call 2
	reply   []byte // of the last host_call
	message []byte // from error_write
	output  uint64
	log     logger
	words   tail
	stdout  printed
	stderr  printed
	closed  uint8 // of the standard files, a bit each
	files   bool  // there are others
	opened  int   // of those

	extism extism
	wapc   wapc
	extra  uint64 // memory beside the linear one, charged to the budget
	stack  uint64 // how much of the call stack is charged

	granted      uint64 // fuel so far, what is left of the slice included
	tableRefused uint32
	long         bool // it used up its first slice
	turn         bool
	turnSince    time.Time

	in      string // the callback that runs now
	failure error  // why the host stopped the guest
	refused error  // what the last host_call that failed failed with
}

// begin prepares for a call.
func (c *running) begin(ctx context.Context, call *Call, limits Limits, start time.Time) {
	c.ctx, c.call, c.limits, c.function = ctx, call, limits, call.Function
	c.deadline, c.ownDeadline = start.Add(limits.Timeout), true
	if d, ok := ctx.Deadline(); ok && d.Before(c.deadline) {
		c.deadline, c.ownDeadline = d, false
	}
	c.input = reader{in: call.Input}
	if call.Input != nil {
		c.input.length = call.Input.Len()
	}
	c.context, c.reply, c.message = nil, nil, c.message[:0]
	c.output, c.closed, c.tableRefused, c.stack = 0, 0, 0, 0
	c.log = logger{sink: call.Log, limit: limits.Log}
	c.words.reset()
	c.granted, c.long = min(sliceFuel, limits.Fuel), false
	if c.abi == abiExtism || c.abi == abiWapc {
		c.extism.begin()
		c.wapc = wapc{}
	}
	c.in, c.failure, c.refused = "", nil, nil
}

// errStopped unwinds a guest from within a host function; the reason is in running.failure.
var errStopped = errors.New("stopped by the host")

// stop ends the guest. It does not return.
func (c *running) stop(err error) {
	c.failure = err
	panic(errStopped)
}

func (c *running) read(p []byte, off int64) int {
	c.charge(100 + len(p)/8)
	if _, here := c.input.in.(bytesInput); !here {
		c.memory.unwatch() // whoever reads it may fill p from another thread
	}
	c.in = "input"
	n, err := c.input.read(p, off)
	c.in = ""
	if errors.Is(err, errBackwards) {
		c.stop(badGuest("input_read: offset %d is before %d, where the last read ended; %w", off, c.input.pos, err))
	}
	if err != nil {
		c.stop(err)
	}
	return n
}

func (c *running) count(n int) {
	c.charge(100 + n/8)
	if uint64(n) > c.limits.Output-c.output {
		c.stop(outputFault(c.limits.Output))
	}
	c.output += uint64(n)
}

func (c *running) write(b []byte) {
	c.count(len(b))
	if c.call.Output == nil || len(b) == 0 {
		return
	}
	c.in = "output"
	n, err := c.call.Output.Write(b)
	c.in = ""
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		c.stop(err)
	}
}

func (c *running) emit(b []byte) {
	if c.call.Emit == nil {
		c.stop(fault.New(fault.Guest, "function_error", "function %s emits records, but was called for bytes", c.function).
			With("permanent", true).
			Hint("run it as a stage of a job, or let it write to its output"))
	}
	if len(b) == 0 {
		return
	}
	if err := checkRecords(b); err != nil {
		c.stop(badGuest("emit: %w", err))
	}
	c.count(len(b))
	c.in = "emit"
	err := c.call.Emit(b)
	c.in = ""
	if err != nil {
		c.stop(err)
	}
}

// sleep is how guests sleep: never longer than their call.
func (c *running) sleep(ns int64) {
	c.memory.unwatch()
	c.endTurn()
	now := time.Now()
	t := time.NewTimer(min(time.Duration(ns), c.deadline.Sub(now)))
	defer t.Stop()
	select {
	case <-t.C:
		c.checkTime(time.Now())
	case <-c.ctx.Done():
		c.stop(Interrupted(c.ctx))
	}
}

// contextReply is the JSON of host_call 1; names are part of the ABI.
func (c *running) contextReply() any {
	x := &c.call.Context
	input := x.Input
	if input == "" {
		input = "bytes"
	}
	return struct {
		Service  string            `json:"service"`
		Version  uint64            `json:"version"`
		Function string            `json:"function"`
		Job      string            `json:"job"`
		Stage    string            `json:"stage"`
		Task     uint32            `json:"task"`
		Attempt  uint32            `json:"attempt"`
		Deadline int64             `json:"deadline_unix_ms"`
		Input    string            `json:"input"`
		Params   map[string]string `json:"params"`
		Trace    string            `json:"traceparent"`
	}{x.Service, x.Version, c.function, x.Job, x.Stage, x.Task, x.Attempt, c.deadline.UnixMilli(), input, x.Params, trace.From(c.ctx).String()}
}

// stdin and stdout are the input and the output of a command.
type stdin struct{ c *running }

func (s stdin) Read(p []byte) (int, error) {
	if s.c.closed&1 != 0 {
		return 0, fs.ErrClosed
	}
	n := s.c.read(p, s.c.input.pos)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

type stdout struct{ c *running }

func (s stdout) Write(b []byte) (int, error) {
	if s.c.closed&2 != 0 {
		return 0, fs.ErrClosed
	}
	s.c.write(b)
	return len(b), nil
}
