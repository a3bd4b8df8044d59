package host

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/plugintest"
	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

func counted(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func part(b []byte, name, header, data string) []byte {
	b = append(counted(b, name), 0)
	return counted(counted(b, header), data)
}

// readRecords takes a batch apart, as "key=value" each.
func readRecords(b []byte) []string {
	var out []string
	for len(b) > 0 {
		var kv [2]string
		for i := range kv {
			n, used := binary.Uvarint(b)
			kv[i] = string(b[used : used+int(n)])
			b = b[used+int(n):]
		}
		out = append(out, kv[0]+"="+kv[1])
	}
	return out
}

func TestGuestsMadeWithTheSDK(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{CacheDir: t.TempDir()})
	echo := load(t, h, plugintest.Build(t, "echo"))
	if f := echo.Info().Functions; len(f) != 1 || f[0] != (Function{"echo", KindCall, "answers the bytes it gets"}) {
		t.Errorf("%+v", f)
	}
	big := strings.Repeat("wattle", 50_000)
	var out bytes.Buffer
	if _, err := echo.Call(t.Context(), &Call{Function: "echo", Input: StreamInput(strings.NewReader(big)), Output: &out}); err != nil || out.String() != big {
		t.Errorf("%d bytes, %v", out.Len(), err)
	}

	words := load(t, h, plugintest.Build(t, "wordcount"))
	var batches []byte
	_, err := words.Call(t.Context(), &Call{
		Function: "map", Input: BytesInput(part(part(nil, "a", "", "B a b"), "b", "", "c")), Context: Context{Input: "split"},
		Emit: func(b []byte) error { batches = append(batches, b...); return nil },
	})
	counts := readRecords(batches) // folded by the guest, in no order
	slices.Sort(counts)
	if got := strings.Join(counts, " "); err != nil || got != "a=1 b=2 c=1" {
		t.Errorf("%q, %v", got, err)
	}
	groups := append(counted(nil, "a"), "\x021\x0325\x00"...)
	groups = append(counted(groups, "b"), "\x023\x00"...)
	for _, function := range []string{"sum", "reduce"} {
		batches = nil
		_, err = words.Call(t.Context(), &Call{
			Function: function, Input: StreamInput(bytes.NewReader(groups)), Context: Context{Input: "groups"},
			Emit: func(b []byte) error { batches = append(batches, b...); return nil },
		})
		if got := strings.Join(readRecords(batches), " "); err != nil || got != "a=26 b=3" {
			t.Errorf("%s: %q, %v", function, got, err)
		}
	}
	_, err = words.Call(t.Context(), &Call{Function: "map"})
	if f := wantFault(t, err, fault.Guest, "function_error", "reads split, but was given bytes"); f.Fields["permanent"] != "true" {
		t.Error(f.Fields)
	}
	_, err = words.Call(t.Context(), &Call{Function: "map", Limits: Limits{Memory: 2 << 20}})
	wantFault(t, err, fault.Limit, "memory_limit", "")
}

// BenchmarkGoGuest is the price of a clean Go program for each call.
func BenchmarkGoGuest(b *testing.B) {
	m := load(b, newHost(b, Config{}), plugintest.Build(b, "echo"))
	input := BytesInput(make([]byte, 1024))
	for b.Loop() {
		if _, err := m.Call(b.Context(), &Call{Function: "echo", Input: input}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWordCount maps the source of Go's own library, in parts of 1 MiB.
func BenchmarkWordCount(b *testing.B) {
	h := newHost(b, Config{CacheDir: b.TempDir()})
	m := load(b, h, plugintest.Build(b, "wordcount"))
	var text bytes.Buffer
	files, _ := filepath.Glob(filepath.Join(os.Getenv("GOROOT_SRC"), "*/*.go"))
	for _, f := range files {
		s, _ := os.ReadFile(f)
		text.Write(s)
	}
	if text.Len() == 0 {
		b.Skip("set GOROOT_SRC to $(go env GOROOT)/src")
	}
	var parts [][]byte
	for data := text.Bytes(); len(data) > 0; {
		n := min(len(data), 1<<20)
		parts = append(parts, part(nil, "f", "", string(data[:n])))
		data = data[n:]
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		emitted := 0
		for _, p := range parts {
			_, err := m.Call(b.Context(), &Call{
				Function: "map", Input: BytesInput(p), Context: Context{Input: "split"},
				Emit: func(batch []byte) error { emitted += len(batch); return nil },
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(emitted), "emitted-B")
	}
}

// What `NewProject` writes builds to a module that this host runs.
func TestANewProjectRuns(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "greeter")
	if err := sdkguest.NewProject(dir, "greeter", "go"); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "greeter.wasm")
	if err := sdkguest.BuildGo(t.Context(), dir, out); err != nil {
		t.Fatal(err)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, newHost(t, Config{}), wasm)
	var answer bytes.Buffer
	var lines []string
	_, err = m.Call(t.Context(), &Call{
		Function: "hello", Input: BytesInput([]byte(`{"name":"Ada"}`)), Output: &answer,
		Log: func(l Level, s string) { lines = append(lines, l.String()+" "+s) },
	})
	if err != nil || answer.String() != `{"message":"Hello, Ada!"}` || len(lines) != 1 || lines[0] != "info greeting Ada" {
		t.Errorf("%s, %q, %v", answer.String(), lines, err)
	}
	_, err = m.Call(t.Context(), &Call{Function: "hello", Input: BytesInput([]byte("{"))})
	if f := wantFault(t, err, fault.Guest, "function_error", "not the JSON that hello takes"); f.Fields["permanent"] != "true" {
		t.Error(f.Fields)
	}
}
