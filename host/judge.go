package host

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
)

// errTimeLimit says that a call's deadline passed.
var errTimeLimit = errors.New("time limit")

// The statuses a function can end with.
const (
	statusDone = iota
	statusFailed
	statusFailedForGood
)

// judge says how a call ended. What the host did comes before what the guest says, since a guest that was stopped
// ends in odd ways.
func (c *running) judge(r ran) error {
	if c.in != "" {
		return fmt.Errorf("function %s: the %s callback panicked: %w", c.function, c.in, r.err)
	}
	if c.failure != nil {
		return c.failure
	}
	failed := r.err != nil || r.status != statusDone
	if c.abi == abiExtism && r.err == nil && !r.exited { // the status is the plugin's own
		if failed = failed || c.extism.failed != 0; failed {
			r.status = statusFailed
		}
	}
	if failed && c.memory.refused > 0 {
		return memoryFault(c.limits.Memory, "the function needs more memory than its limit of %d bytes%s", c.limits.Memory, prefixed(": it ended with: ", c.lastWords(r)))
	}
	if failed && c.memory.failed > 0 {
		return c.memory.budget.exhausted(c.memory.failed)
	}
	if failed && c.tableRefused > 0 {
		return fault.New(fault.Limit, "table_limit", "the function needs a table with %d more entries, beyond the limit of %d%s", c.tableRefused, maxTableEntries, prefixed(": it ended with: ", c.lastWords(r))).
			With("limit", "table_entries").With("value", maxTableEntries).
			Hint("let it keep fewer references")
	}
	switch {
	case !failed:
		return nil
	case (c.abi == abiCommand || c.abi == abiExtism) && r.exited:
		return fault.New(fault.Guest, "function_error", "%s", or(c.words.words(), fmt.Sprintf("exit status %d", r.status))).With("exit_status", r.status)
	case r.exited:
		return trap("exit status %d%s", r.status, prefixed(": ", c.words.words()))
	case r.err != nil && strings.Contains(r.err.Error(), "stack overflow"):
		return stackFault(c.limits.Stack)
	case r.err != nil:
		return c.crashed(r.err)
	}
	message := or(c.said(), or(c.words.words(), "the function failed without a message"))
	switch r.status {
	case statusFailed:
		return fault.New(fault.Guest, "function_error", "%s", message)
	case statusFailedForGood:
		return fault.New(fault.Guest, "function_error", "%s", message).With("permanent", true)
	}
	return trap("function %s answered the status %d, which means nothing%s", c.function, r.status, prefixed(": ", c.said())).
		Hint("answer 0 for success, 1 for a failure, 2 for a failure that trying again cannot help")
}

// crashed makes the fault of a trap. wazero's errors have the reason on the first line and the guest's stack below.
func (c *running) crashed(err error) error {
	text, stack, _ := strings.Cut(err.Error(), "\nwasm stack trace:\n")
	stack, _, _ = strings.Cut(stack, "\n\nGo runtime stack trace:")
	text, _, _ = strings.Cut(text, "\n")
	if i := strings.LastIndex(text, "wasm error: "); i >= 0 {
		text = text[i+len("wasm error: "):]
	}
	text = strings.TrimSuffix(text, " (recovered by wazero)")
	if isGo := runtime.Error(nil); errors.As(err, &isGo) {
		// A function of WASI got arguments that its author did not think of.
		text = "bad arguments for a host function: " + text
	}
	f := trap("%s%s", text, prefixed(": ", or(c.said(), c.words.words())))
	if stack = strings.TrimSpace(stack); stack != "" {
		f = f.With("stack", strings.ReplaceAll(stack, "\n\t", "\n"))
	}
	return f
}

func trap(format string, args ...any) *fault.Error {
	return fault.New(fault.Trap, "trap", "the function crashed: "+format, args...)
}

// badGuest is for guests that break the ABI: they are stopped like crashed ones.
func badGuest(format string, args ...any) *fault.Error {
	return fault.New(fault.Trap, "trap", format, args...).Hint("the guest breaks the ABI: see docs/abi.md")
}

// Interrupted is the error of calls that their caller stopped: ctx is done.
func Interrupted(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return deadlineFault(ctx)
	}
	f := fault.New(fault.Canceled, "canceled", "the call was canceled")
	f.Cause = errors.Join(ctx.Err(), context.Cause(ctx))
	return f
}

func (c *running) said() string {
	return strings.TrimSpace(strings.ToValidUTF8(string(c.message), "\uFFFD"))
}

func (c *running) lastWords(r ran) string {
	if w := or(c.said(), c.words.words()); w != "" {
		return w
	}
	if r.err != nil {
		return fault.As(c.crashed(r.err)).Message
	}
	return ""
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func prefixed(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}
