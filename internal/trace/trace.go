// Package trace carries the W3C trace context of a call from caller to callee, so that what a request caused can be found by one id, on
// whatever node and in whatever service. It does not record spans.
//
// See https://www.w3.org/TR/trace-context/ for the header "traceparent".
package trace

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// Header is the name of the header.
const Header = "Traceparent"

// Context is one call in a trace. The zero value is in none.
type Context struct {
	Trace [16]byte
	Call  [8]byte
	Flags byte
}

const (
	length  = 2 + 1 + 32 + 1 + 16 + 1 + 2
	sampled = 1
)

// Parse reads the header's value. ok is false where it is malformed, as the standard wants it to be taken for missing then.
func Parse(s string) (c Context, ok bool) {
	// Later versions may have more behind these fields.
	if len(s) < length || s[2] != '-' || s[35] != '-' || s[52] != '-' || s[:2] == "ff" || s[:2] == "00" && len(s) != length || len(s) > length && s[length] != '-' {
		return Context{}, false
	}
	var version, flags [1]byte
	for _, f := range []struct {
		to   []byte
		from string
	}{{version[:], s[:2]}, {c.Trace[:], s[3:35]}, {c.Call[:], s[36:52]}, {flags[:], s[53:55]}} {
		for i := range len(f.from) {
			if d := f.from[i]; d >= 'A' && d <= 'F' { // only small letters are allowed
				return Context{}, false
			}
		}
		if _, err := hex.Decode(f.to, []byte(f.from)); err != nil {
			return Context{}, false
		}
	}
	c.Flags = flags[0] & sampled
	if c.Trace == [16]byte{} || c.Call == [8]byte{} {
		return Context{}, false
	}
	return c, true
}

// New begins a trace.
func New() Context {
	c := Context{Flags: sampled}
	binary.LittleEndian.PutUint64(c.Trace[:], rand.Uint64())
	binary.LittleEndian.PutUint64(c.Trace[8:], rand.Uint64()|1)
	return c.Child()
}

// Of is the trace of something that has a name and is found by it again, such as a job; each call of Of is another call in it.
func Of(name string) Context {
	sum := sha256.Sum256([]byte(name))
	c := Context{Flags: sampled}
	copy(c.Trace[:], sum[:])
	return c.Child()
}

// Child is a further call in the same trace.
func (c Context) Child() Context {
	binary.LittleEndian.PutUint64(c.Call[:], rand.Uint64()|1)
	return c
}

// String is the header's value; empty for the zero Context.
func (c Context) String() string {
	if c == (Context{}) {
		return ""
	}
	b := make([]byte, 0, length)
	b = append(b, "00-"...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, c.Call[:])
	b = append(b, '-')
	return string(hex.AppendEncode(b, []byte{c.Flags}))
}

type key struct{}

// With answers a context that belongs to the call c.
func With(ctx context.Context, c Context) context.Context { return context.WithValue(ctx, key{}, c) }

// From answers the call that ctx belongs to; the zero Context if there is none.
func From(ctx context.Context) Context {
	c, _ := ctx.Value(key{}).(Context)
	return c
}
