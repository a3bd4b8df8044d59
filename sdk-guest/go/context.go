package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// Context is one call. It is valid until the function returns.
type Context struct {
	host     abi.Host
	function string
	input    input
	told     *told
	out      *output
	sums     sums
	emitted  bool
}

type told struct {
	Service     string            `json:"service"`
	Version     uint64            `json:"version"`
	Job         string            `json:"job"`
	Stage       string            `json:"stage"`
	Task        uint32            `json:"task"`
	Attempt     uint32            `json:"attempt"`
	Deadline    int64             `json:"deadline_unix_ms"`
	Traceparent string            `json:"traceparent"`
	Input       string            `json:"input"`
	Params      map[string]string `json:"params"`
}

// tell asks the host once, and only in calls that want to know.
func (c *Context) tell() *told {
	if c.told == nil {
		c.told = &told{}
		// A host that tells nothing leaves everything empty.
		_ = json.Unmarshal(c.host.Context(), c.told)
	}
	return c.told
}

// Function is the name this function was called by.
func (c *Context) Function() string { return c.function }

// Service is the service that was called.
func (c *Context) Service() string { return c.tell().Service }

// Version is the version of the service.
func (c *Context) Version() uint64 { return c.tell().Version }

// Job is the id of the job this call belongs to; empty outside of jobs.
func (c *Context) Job() string { return c.tell().Job }

// Stage is the job's stage.
func (c *Context) Stage() string { return c.tell().Stage }

// Task is the number of the task in its stage.
func (c *Context) Task() uint32 { return c.tell().Task }

// Attempt counts up from 1 with every try of the task; 0 outside of jobs.
func (c *Context) Attempt() uint32 { return c.tell().Attempt }

// Deadline is when the host will stop the call.
func (c *Context) Deadline() time.Time { return time.UnixMilli(c.tell().Deadline) }

// Traceparent is the call's W3C trace context. Pass it on as the header or field "traceparent" to what is called other than by
// the host; calls and HTTP requests made through the host carry it already.
func (c *Context) Traceparent() string { return c.tell().Traceparent }

// Param is a parameter of the job's stage, or "".
func (c *Context) Param(name string) string { return c.tell().Params[name] }

// Level says how much a log line matters.
type Level int32

// The levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log logs its arguments, formatted as by fmt.Println, as one line.
func (c *Context) Log(level Level, args ...any) {
	line := fmt.Appendln(nil, args...)
	c.host.Log(int32(level), line[:len(line)-1])
}

// Logf logs one line, formatted as by fmt.Printf.
func (c *Context) Logf(level Level, format string, args ...any) {
	c.host.Log(int32(level), fmt.Appendf(nil, format, args...))
}

// Output is for reducers that answer bytes instead of records. It is buffered and never fails.
func (c *Context) Output() io.Writer {
	if c.out == nil {
		c.out = &output{host: c.host}
	}
	return c.out
}

func (c *Context) finish() error {
	c.flushSums()
	if c.out != nil {
		c.out.flush()
		if c.emitted {
			return Permanent(errors.New("the function emitted records and wrote to its output; it may do one of them only"))
		}
	}
	return nil
}

const blockSize = 64 << 10

type output struct {
	host abi.Host
	buf  []byte
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if len(o.buf)+len(p) > blockSize {
		o.flush()
	}
	if len(p) >= blockSize {
		o.host.OutputWrite(p)
	} else {
		o.buf = append(o.buf, p...)
	}
	return len(p), nil
}

func (o *output) flush() {
	if len(o.buf) > 0 {
		o.host.OutputWrite(o.buf)
		o.buf = o.buf[:0]
	}
}
