package guest_test

import (
	"encoding/json"
	"errors"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

type point struct{ X, Y int }

func init() {
	guest.Handle("echo", func(_ *guest.Context, in []byte) ([]byte, error) { return in, nil })
	guest.Handle("fail", func(ctx *guest.Context, in []byte) ([]byte, error) {
		err := errors.New("no luck")
		if string(in) == "permanent" {
			err = guest.Permanent(err)
		}
		ctx.Log(guest.Warn, "failing", 3, "times")
		return nil, err
	})
	guest.HandleJSON("swap", func(_ *guest.Context, p point) (point, error) { return point{p.Y, p.X}, nil })
	guest.Handle("context", func(ctx *guest.Context, _ []byte) ([]byte, error) {
		return []byte(strings.Join([]string{ctx.Function(), ctx.Service(), ctx.Job(), ctx.Stage(), ctx.Param("column"), ctx.Traceparent(), strconv.Itoa(int(ctx.Task() + ctx.Attempt()))}, " ")), nil
	})
	guest.Map("lines", func(_ *guest.Context, p *guest.Part, emit guest.Emit[int]) error {
		for line := range p.Lines() {
			emit.Bytes(line, len(line))
			if string(line) == "stop" {
				rest, err := io.ReadAll(p)
				emit("rest", len(rest))
				return err
			}
		}
		return nil
	})
	guest.Map("first", func(_ *guest.Context, p *guest.Part, emit guest.Emit[string]) error {
		for line := range p.Lines() {
			emit(p.Name, string(line))
			break
		}
		return nil
	})
	guest.Map("where", func(_ *guest.Context, p *guest.Part, emit guest.Emit[point]) error {
		emit(p.Name+" "+p.Header, point{int(p.Offset), int(p.Len())})
		return nil
	})
	guest.Map("raw", func(_ *guest.Context, p *guest.Part, emit guest.Emit[[]byte]) error {
		for b := range p.Blocks() {
			emit("k", b)
		}
		return nil
	})
	guest.Map("unencodable", func(_ *guest.Context, _ *guest.Part, emit guest.Emit[func()]) error {
		emit("k", func() {})
		return nil
	})
	sum := func(_ string, values iter.Seq[int]) int {
		total := 0
		for v := range values {
			total += v
		}
		return total
	}
	guest.Combine("sum", sum)
	guest.Reduce("total", func(_ *guest.Context, key string, values iter.Seq[int], emit guest.Emit[int]) error {
		emit(key, sum(key, values))
		return nil
	})
	guest.Reduce("one", func(_ *guest.Context, key string, values iter.Seq[string], emit guest.Emit[string]) error {
		for v := range values {
			emit(key, v)
			break
		}
		return nil
	})
	guest.Reduce("write", func(ctx *guest.Context, key string, values iter.Seq[[]byte], emit guest.Emit[int]) error {
		for v := range values {
			if _, err := ctx.Output().Write(v); err != nil {
				return err
			}
		}
		if key == "both" {
			emit(key, 1)
		}
		return nil
	})
	guest.Describe("echo", "answers what it gets")
}

func TestCall(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "x", strings.Repeat("long ", 100_000)} {
		if got, err := guesttest.Call(t, "echo", []byte(in)); err != nil || string(got) != in {
			t.Errorf("%d bytes became %d, %v", len(in), len(got), err)
		}
	}
	got, err := guesttest.Call(t, "swap", []byte(`{"X":1,"Y":2}`))
	if err != nil || string(got) != `{"X":2,"Y":1}` {
		t.Errorf("%s, %v", got, err)
	}
	s := guesttest.Setup{Service: "svc", Job: "j", Stage: "s", Task: 2, Attempt: 1, Traceparent: "00-a-b-01", Params: map[string]string{"column": "price"}}
	if got, err := s.Call(t, "context", nil); err != nil || string(got) != "context svc j s price 00-a-b-01 3" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		function, in, message string
		permanent             bool
	}{
		{"fail", "", "no luck", false},
		{"fail", "permanent", "no luck", true},
		{"swap", "{", "not the JSON that swap takes", true},
		{"nothing", "", `no function "nothing"; registered are: add, addAndWrite, capable, context, echo`, true},
		{"total", "", "reads groups, but was given bytes", true},
		{"lines", "", "reads split, but was given bytes", true},
	} {
		_, err := guesttest.Call(t, c.function, []byte(c.in))
		var e *guesttest.Error
		if !errors.As(err, &e) || e.Permanent != c.permanent || !strings.Contains(e.Message, c.message) {
			t.Errorf("%s: got %#v", c.function, err)
		}
	}
	var e *guesttest.Error
	if _, err := (guesttest.Setup{}).Map(t, "unencodable", guesttest.Text("")); !errors.As(err, &e) || !strings.Contains(e.Message, `key "k"`) {
		t.Errorf("got %v", err)
	}
	_, _, err := guesttest.Setup{}.Reduce(t, "total", guesttest.Record{Key: "a", Value: "1"}, guesttest.Record{Key: "a", Value: "x"})
	if !errors.As(err, &e) || !e.Permanent || !strings.Contains(e.Message, `a value of key "a"`) {
		t.Errorf("got %v", err)
	}
}

func TestMapReadsLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", 200_000)
	got := guesttest.Map(t, "lines", guesttest.Text("a\r\n\nbc\n"), guesttest.Text(""), guesttest.Text(long+"\nend"), guesttest.Text("stop\nabc\nd"), guesttest.Text("z\n"))
	want := guesttest.Pairs("a", "1", "", "0", "bc", "2", long, "200000", "end", "3", "stop", "4", "rest", "5", "z", "1")
	if !slices.Equal(got, want) {
		t.Errorf("%d records", len(got))
	}
	got = guesttest.Map(t, "first", guesttest.Part{Name: "1", Data: "a\n" + long}, guesttest.Part{Name: "2", Data: "b"})
	if want := guesttest.Pairs("1", `"a"`, "2", `"b"`); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	got = guesttest.Map(t, "where", guesttest.Part{Name: "f", Offset: 300, Header: "h", Data: "abc"})
	if want := guesttest.Pairs("f h", `{"X":300,"Y":3}`); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	got = guesttest.Map(t, "raw", guesttest.Text(long))
	total := 0
	for _, r := range got {
		total += len(r.Value)
	}
	if total != len(long) {
		t.Errorf("%d bytes", total)
	}
}

func TestReduce(t *testing.T) {
	t.Parallel()
	var records, want []guesttest.Record
	for i := range 30_000 {
		records = append(records, guesttest.Record{Key: strconv.Itoa(i % 3), Value: strconv.Itoa(i)})
	}
	want = guesttest.Pairs("0", "149985000", "1", "149995000", "2", "150005000")
	if got := guesttest.Reduce(t, "total", records...); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := guesttest.Combine(t, "sum", records...); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	long, _ := json.Marshal(strings.Repeat("v", 100_000))
	got := guesttest.Reduce(t, "one", guesttest.Record{Key: "a", Value: `"é<"`}, guesttest.Record{Key: "a", Value: string(long)}, guesttest.Record{Key: "b", Value: `""`})
	if want := guesttest.Pairs("a", `"é\u003c"`, "b", `""`); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	_, out, err := guesttest.Setup{}.Reduce(t, "write", guesttest.Record{Key: "a", Value: "x"}, guesttest.Record{Key: "b", Value: strings.Repeat("y", 100_000)}, guesttest.Record{Key: "c", Value: ""})
	if err != nil || string(out) != "x"+strings.Repeat("y", 100_000) {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if _, _, err := (guesttest.Setup{}).Reduce(t, "write", guesttest.Record{Key: "both", Value: "x"}); err == nil || !strings.Contains(err.Error(), "one of them") {
		t.Errorf("got %v", err)
	}
}

func TestDescription(t *testing.T) {
	t.Parallel()
	b, err := guesttest.Describe(t)
	if err != nil || !strings.Contains(string(b), `{"name":"echo","kind":"call","description":"answers what it gets"}`) || !strings.HasPrefix(string(b), `{"abi":1,"functions":[`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestDoubleNamesPanic(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"echo": `two functions are named "echo"`, "": "cannot be", "wattle_x": "cannot be"} {
		func() {
			defer func() {
				if r, _ := recover().(string); !strings.Contains(r, want) {
					t.Errorf("%q: got %q", name, r)
				}
			}()
			guest.Handle(name, nil)
		}()
	}
}
