// Package fault is the one error type that crosses package borders with a meaning.
//
// A domain package returns a *Error where the caller is to act on what happened; one table in node/rpc
// turns its Kind into a code. Errors of other types are failures of the node itself.
package fault

import (
	"errors"
	"fmt"
)

// Kind says what sort of thing went wrong, and so which code a client sees.
type Kind uint8

// The kinds.
const (
	// Internal is the zero value: a failure of the node itself.
	Internal Kind = iota
	// Invalid: the request can never work as it is.
	Invalid
	// NotFound: what the request names does not exist.
	NotFound
	// Exists: what the request would make is there already, and differs.
	Exists
	// Precondition: the request could work once something else has changed.
	Precondition
	// Denied: the request is understood and not allowed.
	Denied
	// Exhausted: a bound was reached; trying later may help.
	Exhausted
	// Unavailable: the node cannot do it now; trying again is safe, unless Help says otherwise.
	Unavailable
	// Canceled: the caller or an operator stopped it.
	Canceled
	// Timeout: its time was over.
	Timeout
	// Corrupt: stored bytes are not what was stored.
	Corrupt
	// Guest: the function answered with an error of its own.
	Guest
	// Trap: the function crashed.
	Trap
	// Limit: the function was stopped at one of its limits.
	Limit
)

// Error is a failure with a meaning.
type Error struct {
	Kind Kind
	// Reason is a stable word a program can switch on, e.g. "unknown_service".
	Reason string
	// Message is for people: lower case, what failed.
	Message string
	// Help says what to do next. It may be empty.
	Help string
	// Fields name what the error is about.
	Fields map[string]string
	// Cause is what lies below, if anything.
	Cause error
}

// New makes an Error. A %w verb sets its Cause.
func New(kind Kind, reason, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Kind: kind, Reason: reason, Message: err.Error(), Cause: errors.Unwrap(err)}
}

// Hint sets what to do next and returns e.
func (e *Error) Hint(format string, args ...any) *Error {
	e.Help = fmt.Sprintf(format, args...)
	return e
}

// With sets one field and returns e.
func (e *Error) With(key string, value any) *Error {
	if e.Fields == nil {
		e.Fields = map[string]string{}
	}
	e.Fields[key] = fmt.Sprint(value)
	return e
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

// Is matches an *Error with the same reason, so that errors.Is works with a sentinel.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// As returns the first *Error in err's tree, or nil.
func As(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// KindOf returns the kind of the first *Error in err's tree, or Internal.
func KindOf(err error) Kind {
	if e := As(err); e != nil {
		return e.Kind
	}
	return Internal
}

// Reason returns the reason of the first *Error in err's tree, or "internal".
func Reason(err error) string {
	if e := As(err); e != nil {
		return e.Reason
	}
	return "internal"
}
