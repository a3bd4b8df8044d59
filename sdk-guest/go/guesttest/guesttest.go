// Package guesttest runs registered functions in plain Go tests, without WebAssembly: input goes in, output or records
// come out, log lines go to the test's log.
//
// It does not bound time or memory. To give a function parameters or a job, use the methods of Setup.
package guesttest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/sdk-guest/go/internal/abi"
)

// Setup is what a function can learn about its call. The JSON names are those of the ABI.
type Setup struct {
	Service     string            `json:"service"`
	Version     uint64            `json:"version"`
	Job         string            `json:"job"`
	Stage       string            `json:"stage"`
	Task        uint32            `json:"task"`
	Attempt     uint32            `json:"attempt"`
	Traceparent string            `json:"traceparent"`
	Params      map[string]string `json:"params"`
	// Capabilities are what the function may do beyond computing.
	Capabilities Capabilities `json:"-"`
}

// Part is a part of a split, for mappers.
type Part struct {
	Name   string
	Offset int64
	Header string
	Data   string
}

// Text makes a Part of a text.
func Text(data string) Part { return Part{Name: "test.txt", Data: data} }

// Record is one record. Value is JSON, or the bytes themselves where values are []byte.
type Record struct{ Key, Value string }

// Pairs makes records of keys and values in turn.
func Pairs(keysAndValues ...string) []Record {
	if len(keysAndValues)%2 != 0 {
		panic("guesttest.Pairs: the last key has no value")
	}
	var out []Record
	for pair := range slices.Chunk(keysAndValues, 2) {
		out = append(out, Record{Key: pair[0], Value: pair[1]})
	}
	return out
}

// Error is how a function failed.
type Error struct {
	Message string
	// Permanent says that trying again does not help: see guest.Permanent.
	Permanent bool
}

func (e *Error) Error() string { return e.Message }

// Call runs a function from bytes to bytes.
func Call(t testing.TB, function string, in []byte) ([]byte, error) {
	t.Helper()
	return Setup{}.Call(t, function, in)
}

// Map runs a mapper on parts and answers what it emitted. A failure fails the test.
func Map(t testing.TB, function string, parts ...Part) []Record {
	t.Helper()
	return must(Setup{}.Map(t, function, parts...))(t)
}

// Reduce runs a reducer on records, grouped and sorted as a job would do it, and answers what it emitted. A failure fails
// the test.
func Reduce(t testing.TB, function string, records ...Record) []Record {
	t.Helper()
	out, _, err := Setup{}.Reduce(t, function, records...)
	return must(out, err)(t)
}

// Combine is Reduce for combiners.
func Combine(t testing.TB, function string, records ...Record) []Record {
	t.Helper()
	return Reduce(t, function, records...)
}

func must(r []Record, err error) func(testing.TB) []Record {
	return func(t testing.TB) []Record {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// Call is like the function Call.
func (s Setup) Call(t testing.TB, function string, in []byte) ([]byte, error) {
	t.Helper()
	h := &host{t: t, setup: s, function: function, kind: "bytes", in: in, length: int64(len(in))}
	err := h.run()
	return h.out.Bytes(), err
}

// Map is like the function Map, but answers failures.
func (s Setup) Map(t testing.TB, function string, parts ...Part) ([]Record, error) {
	t.Helper()
	var in []byte
	for _, p := range parts {
		in = appendCounted(in, p.Name)
		in = binary.AppendUvarint(in, uint64(p.Offset))
		in = appendCounted(in, p.Header)
		in = appendCounted(in, p.Data)
	}
	h := &host{t: t, setup: s, function: function, kind: "split", in: in, length: int64(len(in))}
	err := h.run()
	return h.records, err
}

// Reduce is like the function Reduce, but answers failures, and what was written to the output.
func (s Setup) Reduce(t testing.TB, function string, records ...Record) ([]Record, []byte, error) {
	t.Helper()
	sorted := slices.Clone(records)
	slices.SortStableFunc(sorted, func(a, b Record) int { return cmp.Compare(a.Key, b.Key) })
	var in []byte
	for i, r := range sorted {
		if i == 0 || r.Key != sorted[i-1].Key {
			in = appendCounted(in, r.Key)
		}
		in = binary.AppendUvarint(in, uint64(len(r.Value))+1)
		in = append(in, r.Value...)
		if i == len(sorted)-1 || r.Key != sorted[i+1].Key {
			in = append(in, 0)
		}
	}
	h := &host{t: t, setup: s, function: function, kind: "groups", in: in, length: -1}
	err := h.run()
	return h.records, h.out.Bytes(), err
}

// Describe answers the description of all functions, as a host reads it.
func Describe(t testing.TB) ([]byte, error) {
	t.Helper()
	h := &host{t: t}
	err := h.ended(abi.Describe(h))
	return h.out.Bytes(), err
}

func appendCounted(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// host stands in for the real one.
type host struct {
	t        testing.TB
	setup    Setup
	function string
	kind     string
	in       []byte
	length   int64
	read     int64
	out      bytes.Buffer
	message  strings.Builder
	records  []Record
	broken   error
}

func (h *host) run() error {
	h.t.Helper()
	if abi.Run == nil {
		return errors.New("the package guest is not in this program: register functions with it")
	}
	return h.ended(abi.Run(h))
}

func (h *host) ended(status int32) error {
	if h.broken != nil {
		return h.broken
	}
	if status != 0 {
		return &Error{Message: h.message.String(), Permanent: status == 2}
	}
	return nil
}

func (h *host) InputLen() int64 { return h.length }

func (h *host) InputRead(p []byte, off int64) int {
	if h.length < 0 && off < h.read {
		h.broken = errors.New("a stream was read backwards")
	}
	if off >= int64(len(h.in)) {
		return 0
	}
	n := copy(p, h.in[off:])
	h.read = off + int64(n)
	return n
}

func (h *host) OutputWrite(p []byte)      { h.out.Write(p) }
func (h *host) ErrorWrite(p []byte)       { h.message.Write(p) }
func (h *host) Log(level int32, b []byte) { h.t.Logf("log %d: %s", level, b) }
func (h *host) Function() string          { return h.function }

func (h *host) Context() []byte {
	b, err := json.Marshal(struct {
		Setup
		Function string `json:"function"`
		Input    string `json:"input"`
	}{h.setup, h.function, h.kind})
	if err != nil {
		h.broken = err
	}
	return b
}

func (h *host) Emit(batch []byte) {
	for len(batch) > 0 {
		key, rest, err := counted(batch)
		if err != nil {
			h.broken = err
			return
		}
		value, rest, err := counted(rest)
		if err != nil {
			h.broken = err
			return
		}
		h.records = append(h.records, Record{Key: string(key), Value: string(value)})
		batch = rest
	}
}

func counted(b []byte) (item, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 || n > uint64(len(b)-used) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	return b[used : used+int(n)], b[used+int(n):], nil
}
