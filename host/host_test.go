package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newHost(t testing.TB, c Config) *Host {
	t.Helper()
	h, err := New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func load(t testing.TB, h *Host, wasm []byte) *Module {
	t.Helper()
	m, err := h.Load(t.Context(), digest.Of(wasm), func() ([]byte, error) { return wasm, nil })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Release)
	return m
}

// call runs a function of one of testdata's guests.
func call(t *testing.T, guest, function string, c Call) (string, Stats, error) {
	t.Helper()
	m := load(t, newHost(t, Config{}), testdata.Wasm(guest))
	var out bytes.Buffer
	c.Function = function
	if c.Output == nil {
		c.Output = &out
	}
	stats, err := m.Call(t.Context(), &c)
	return out.String(), stats, err
}

func wantFault(t *testing.T, err error, kind fault.Kind, reason, message string) *fault.Error {
	t.Helper()
	f := fault.As(err)
	if f == nil || f.Kind != kind || f.Reason != reason || !strings.Contains(f.Message, message) {
		t.Fatalf("got %#v, want kind %d, reason %s and a message with %q", err, kind, reason, message)
	}
	if strings.Contains(f.Message, "goroutine") || strings.Contains(f.Message, ".go:") || strings.Contains(f.Message, "wazero") {
		t.Errorf("the message tells of the host's insides: %s", f.Message)
	}
	return f
}

func TestEchoOfBytesAndStreams(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("wattle ", 40_000)
	for name, in := range map[string]Input{
		"bytes":       BytesInput([]byte(big)),
		"stream":      StreamInput(strings.NewReader(big)),
		"single byte": StreamInput(iotest.OneByteReader(strings.NewReader(big[:5000]))),
		"data+EOF":    StreamInput(iotest.DataErrReader(strings.NewReader(big))),
		"empty":       BytesInput(nil),
		"none":        nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := big
			switch name {
			case "single byte":
				want = big[:5000]
			case "empty", "none":
				want = ""
			}
			got, stats, err := call(t, "echo", "echo", Call{Input: in})
			if err != nil || got != want {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			if stats.OutputBytes != uint64(len(want)) || stats.PeakMemory != 2*wasmPage || stats.Duration <= 0 {
				t.Errorf("stats %+v", stats)
			}
		})
	}
}

func TestEveryCallStartsAnew(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("state"))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				var out bytes.Buffer
				if _, err := m.Call(t.Context(), &Call{Function: "count", Output: &out}); err != nil || out.String() != "1" {
					t.Errorf("got %q, %v", out.String(), err)
				}
			}
		})
	}
	wg.Wait()
}

func TestCrashes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ guest, function, message string }{
		{"unreachable", "unreachable", "the function crashed: unreachable"},
		{"unreachable", "oob", "out of bounds memory access"},
		{"unreachable", "divzero", "integer divide by zero"},
		{"stderr", "gopanic", "exit status 2: panic: boom"},
		{"fail", "odd", "the status 77"},
		{"emitbad", "emitbad", "value of 5 bytes ends beyond the batch"},
		{"badptr", "input_read", "100 bytes at 65530"},
		{"badptr", "input_read_negative", "offset -1 is negative"},
		{"badptr", "output_write", "output_write: 16 bytes at 4294967288"},
		{"badptr", "error_write", "error_write: 1 bytes at 65536"},
		{"badptr", "log", "log: 4294967295 bytes at 0"},
		{"badptr", "emit", "emit: 2 bytes at 65535"},
		{"badptr", "host_call", "host_call: 9 bytes at 65535"},
		{"badptr", "reply_read", "host_call: 9 bytes at 65535"},
	} {
		t.Run(c.function, func(t *testing.T) {
			t.Parallel()
			_, _, err := call(t, c.guest, c.function, Call{Emit: func([]byte) error { return nil }, Input: BytesInput([]byte("x"))})
			wantFault(t, err, fault.Trap, "trap", c.message)
		})
	}
}

func TestTrapCarriesTheGuestsStack(t *testing.T) {
	t.Parallel()
	_, _, err := call(t, "unreachable", "oob", Call{})
	f := wantFault(t, err, fault.Trap, "trap", "out of bounds")
	if f.Fields["stack"] == "" || strings.Contains(f.Fields["stack"], ".go:") {
		t.Errorf("stack %q", f.Fields["stack"])
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	_, _, err := call(t, "fail", "fail", Call{})
	if f := wantFault(t, err, fault.Guest, "function_error", "the lake is dry"); f.Fields["permanent"] != "" {
		t.Error("a failure of status 1 is permanent")
	}
	_, _, err = call(t, "fail", "silent", Call{})
	wantFault(t, err, fault.Guest, "function_error", "without a message")
	_, _, err = call(t, "failperm", "failperm", Call{})
	if f := wantFault(t, err, fault.Guest, "function_error", "no such lake"); f.Fields["permanent"] != "true" {
		t.Error("a failure of status 2 is not permanent")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	_, stats, err := call(t, "grow", "grow", Call{Limits: Limits{Memory: 4 << 20}})
	f := wantFault(t, err, fault.Limit, "memory_limit", "4194304")
	if f.Fields["limit"] != "memory_bytes" || f.Fields["value"] != "4194304" || stats.PeakMemory != 4<<20 {
		t.Errorf("fields %v, stats %+v", f.Fields, stats)
	}
	_, _, err = call(t, "grow", "modest", Call{})
	if err != nil {
		t.Errorf("a guest that lives with a refusal fails: %v", err)
	}
	if _, stats, err = call(t, "grow", "some", Call{}); err != nil || stats.PeakMemory != 257*wasmPage {
		t.Errorf("%+v, %v", stats, err)
	}
	_, _, err = call(t, "echo", "echo", Call{Limits: Limits{Memory: 1}})
	wantFault(t, err, fault.Limit, "memory_limit", "starts with 131072 bytes")
	_, err = newHost(t, Config{}).Inspect(t.Context(), testdata.Wasm("huge-min-memory"))
	wantFault(t, err, fault.Limit, "node_memory", "429")

	out, stats, err := call(t, "flood", "flood", Call{Limits: Limits{Output: 100_000}})
	wantFault(t, err, fault.Limit, "output_limit", "100000")
	if stats.OutputBytes != 65536 || len(out) != 65536 {
		t.Errorf("%d bytes came out, counted as %d", len(out), stats.OutputBytes)
	}

	var lines []string
	_, _, err = call(t, "logflood", "logflood", Call{Limits: Limits{Log: 120}, Log: func(_ Level, s string) { lines = append(lines, s) }})
	if err != nil || len(lines) != 11 || lines[9] != "hello there" || !strings.Contains(lines[10], "dropped") {
		t.Errorf("%v, %q", err, lines)
	}
}

func TestTimeLimitStopsLoopsSleepsAndStartFunctions(t *testing.T) {
	t.Parallel()
	for guest, function := range map[string]string{"spin": "spin", "sleep": "sleep"} {
		t.Run(guest, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			_, _, err := call(t, guest, function, Call{Limits: Limits{Timeout: 50 * time.Millisecond}})
			f := wantFault(t, err, fault.Limit, "time_limit", "50ms")
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if f.Fields["value"] != "50ms" {
				t.Error(f.Fields)
			}
		})
	}
	_, err := newHost(t, Config{Defaults: Limits{Timeout: 50 * time.Millisecond}}).Inspect(t.Context(), testdata.Wasm("startspin"))
	wantFault(t, err, fault.Limit, "time_limit", "the module's start failed")
}

func TestCancelingIsNotALimit(t *testing.T) {
	t.Parallel()
	m := load(t, newHost(t, Config{}), testdata.Wasm("spin"))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	_, err := m.Call(ctx, &Call{Function: "spin"})
	wantFault(t, err, fault.Canceled, "canceled", "")
	if !errors.Is(err, context.Canceled) {
		t.Error("the cause is lost")
	}
	_, err = m.Call(ctx, &Call{Function: "spin"})
	wantFault(t, err, fault.Canceled, "canceled", "")
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = m.Call(ctx, &Call{Function: "spin"})
	wantFault(t, err, fault.Timeout, "deadline_exceeded", "")
}

func TestErrorsOfTheCallersSideComeBackAsTheyAre(t *testing.T) {
	t.Parallel()
	mine := errors.New("disk full")
	record := []byte("\x01k\x01v")
	for name, c := range map[string]struct {
		guest string
		call  Call
	}{
		"input":  {"echo", Call{Input: StreamInput(iotest.ErrReader(mine))}},
		"output": {"echo", Call{Input: BytesInput(record), Output: failingWriter{mine}}},
		"emit":   {"emit", Call{Input: BytesInput(record), Emit: func([]byte) error { return mine }}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := call(t, c.guest, c.guest, c.call)
			if !errors.Is(err, mine) || fault.As(err) != nil {
				t.Errorf("got %v", err)
			}
		})
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestACallbackThatPanicsIsNotTheGuestsFault(t *testing.T) {
	t.Parallel()
	_, _, err := call(t, "emit", "emit", Call{Input: BytesInput([]byte("\x01k\x01v")), Emit: func([]byte) error { panic("oops") }})
	if err == nil || fault.As(err) != nil || !strings.Contains(err.Error(), "emit callback panicked") {
		t.Errorf("got %v", err)
	}
}

func TestEmit(t *testing.T) {
	t.Parallel()
	var got []byte
	batch := []byte("\x01k\x01v\x00\x00\x03key\x80\x01" + strings.Repeat("v", 128))
	_, stats, err := call(t, "emit", "emit", Call{Input: BytesInput(batch), Emit: func(b []byte) error { got = append(got, b...); return nil }})
	if err != nil || !bytes.Equal(got, batch) || stats.OutputBytes != uint64(len(batch)) {
		t.Errorf("%q, %+v, %v", got, stats, err)
	}
	_, _, err = call(t, "emit", "emit", Call{Input: BytesInput(batch)})
	wantFault(t, err, fault.Guest, "function_error", "emits records")
	_, _, err = call(t, "emit", "emit", Call{Input: BytesInput(batch), Limits: Limits{Output: 10}, Emit: func([]byte) error { return nil }})
	wantFault(t, err, fault.Limit, "output_limit", "")
}

func TestStreamsAreReadForwardOnly(t *testing.T) {
	t.Parallel()
	got, _, err := call(t, "seek", "forward", Call{Input: StreamInput(strings.NewReader("0123456789"))})
	if err != nil || got != "1256" {
		t.Errorf("%q, %v", got, err)
	}
	got, _, err = call(t, "seek", "backward", Call{Input: BytesInput([]byte("01234567"))})
	if err != nil || got != "45670123" {
		t.Errorf("%q, %v", got, err)
	}
	_, _, err = call(t, "seek", "backward", Call{Input: StreamInput(strings.NewReader("01234567"))})
	wantFault(t, err, fault.Trap, "trap", "forward only")
}

func TestContext(t *testing.T) {
	t.Parallel()
	got, _, err := call(t, "context", "context", Call{Context: Context{Service: "s", Version: 3, Job: "j", Stage: "st", Task: 4, Attempt: 5, Input: "split", Params: map[string]string{"a": "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	var x map[string]any
	if err := json.Unmarshal([]byte(got), &x); err != nil {
		t.Fatal(err)
	}
	deadline := time.UnixMilli(int64(x["deadline_unix_ms"].(float64)))
	if until := time.Until(deadline); until < 20*time.Second || until > 31*time.Second {
		t.Errorf("deadline in %v", until)
	}
	delete(x, "deadline_unix_ms")
	b, _ := json.Marshal(x)
	if want := `{"attempt":5,"function":"context","input":"split","job":"j","params":{"a":"b"},"service":"s","stage":"st","task":4,"traceparent":"","version":3}`; string(b) != want {
		t.Errorf("got %s", b)
	}
	if _, _, err := call(t, "badptr", "unknown_op", Call{}); err != nil {
		t.Errorf("an unknown operation is not answered with -1: %v", err)
	}
}

func TestCommand(t *testing.T) {
	t.Parallel()
	var lines []string
	logs := func(l Level, s string) { lines = append(lines, l.String()+" "+s) }
	got, _, err := call(t, "start-command", "main", Call{Input: StreamInput(strings.NewReader("hello")), Log: logs})
	if err != nil || got != "hello" || len(lines) != 1 || lines[0] != "info done" {
		t.Errorf("%q, %q, %v", got, lines, err)
	}
	_, _, err = call(t, "start-command", "main", Call{})
	if f := wantFault(t, err, fault.Guest, "function_error", "done"); f.Fields["exit_status"] != "3" {
		t.Error(f.Fields)
	}
	_, _, err = call(t, "stderr", "exitzero", Call{})
	if err != nil {
		t.Errorf("an exit with status 0 is an error: %v", err)
	}
	_, _, err = call(t, "start-command", "main", Call{Input: BytesInput([]byte("hello")), Limits: Limits{Output: 3}})
	wantFault(t, err, fault.Limit, "output_limit", "")
	broken := errors.New("broken pipe")
	_, _, err = call(t, "start-command", "main", Call{Input: BytesInput([]byte("hello")), Output: failingWriter{broken}})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestUnknownFunction(t *testing.T) {
	t.Parallel()
	_, _, err := call(t, "grow", "shrink", Call{})
	wantFault(t, err, fault.NotFound, "unknown_function", "grow, modest, some")
}

// A deadline may fall anywhere: into the start, a host function, a growing memory, the end. Run with -race.
func TestDeadlinesAtAnyMoment(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{})
	var wg sync.WaitGroup
	for _, guest := range []string{"grow", "flood", "echo", "spin"} {
		m := load(t, h, testdata.Wasm(guest))
		wg.Go(func() {
			for i := range 60 {
				c := Call{Function: guest, Input: StreamInput(strings.NewReader("some input")), Limits: Limits{Timeout: time.Duration(i*40+1) * time.Microsecond, Memory: 32 << 20}}
				if _, err := m.Call(t.Context(), &c); err != nil && fault.KindOf(err) != fault.Limit && fault.KindOf(err) != fault.Trap {
					t.Errorf("%s: %v", guest, err)
				}
			}
		})
	}
	wg.Wait()
}
