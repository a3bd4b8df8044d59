package host

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
)

// Call says what to run and with what.
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
}

// Context is what a guest can learn about its call.
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
	PeakMemory  uint64
	OutputBytes uint64 // written and emitted
}

// running is the state of one call, for the host's functions.
type running struct {
	ctx      context.Context
	call     *Call
	limits   Limits
	function string
	command  bool
	deadline time.Time

	input   reader
	reply   []byte // of the last host_call
	message []byte // from error_write
	output  uint64
	linear  byteMemory
	memory  guestMemory
	log     logger
	words   tail
	stdout  printed
	stderr  printed

	in      string // the callback that runs now
	failure error  // why the host stopped the guest
}

// errStopped unwinds a guest from within a host function; the reason is in running.failure.
var errStopped = errors.New("stopped by the host")

// stop ends the guest. It does not return.
func (c *running) stop(err error) {
	c.failure = err
	panic(errStopped)
}

func (c *running) read(p []byte, off int64) int {
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
	t := time.NewTimer(time.Duration(ns))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
		panic(errStopped) // judged by the context
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
	}{x.Service, x.Version, c.function, x.Job, x.Stage, x.Task, x.Attempt, c.deadline.UnixMilli(), input, x.Params}
}

// stdin and stdout are the input and the output of a command.
type stdin struct{ c *running }

func (s stdin) Read(p []byte) (int, error) {
	n := s.c.read(p, s.c.input.pos)
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

type stdout struct{ c *running }

func (s stdout) Write(b []byte) (int, error) {
	s.c.write(b)
	return len(b), nil
}

// run runs one export of a module under limits that have no zero fields.
func run(ctx context.Context, e *entry, call *Call, limits Limits, entry string) (Stats, error) {
	if least := e.outline.minMemory; least > limits.Memory {
		return Stats{}, memoryFault(limits.Memory, "the module starts with %d bytes of memory, more than the limit of %d", least, limits.Memory)
	}
	if err := ctx.Err(); err != nil {
		return Stats{}, interrupted(ctx)
	}
	start := time.Now()
	c := &running{
		call: call, limits: limits, function: call.Function, command: entry == "_start",
		deadline: start.Add(limits.Timeout),
		input:    reader{in: call.Input},
		log:      logger{sink: call.Log, limit: limits.Log},
		memory:   guestMemory{limit: limits.Memory, portable: e.portable},
	}
	if call.Input != nil {
		c.input.length = call.Input.Len()
	}
	c.stdout = printed{level: LevelInfo, to: &c.log, in: &c.in}
	c.stderr = printed{level: LevelInfo, to: &c.log, in: &c.in, also: &c.words}
	if d, ok := ctx.Deadline(); ok && d.Before(c.deadline) {
		c.deadline = d
	}
	// Done is seen by wazero, the cause by judge.
	limited, cancel := context.WithTimeoutCause(ctx, limits.Timeout, errTimeLimit)
	c.ctx = limited
	r := e.program.run(c, entry)
	cause := context.Cause(limited)
	cancel()
	c.memory.free()
	c.stdout.flush()
	c.stderr.flush()
	stats := Stats{Duration: time.Since(start), PeakMemory: c.memory.peak, OutputBytes: c.output}
	return stats, c.judge(ctx, cause, r)
}
