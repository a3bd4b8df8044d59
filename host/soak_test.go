//go:build linux

package host

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/testdata"
)

var soakCalls = flag.Int("soak.calls", 20_000, "how many calls TestSoak makes; half of them before it measures")

// usage is what a process must not lose.
type usage struct{ heap, resident, goroutines, files, mappings int }

func measure(t *testing.T) usage {
	t.Helper()
	runtime.GC()
	runtime.GC() // what finalizers let go of
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return usage{int(m.HeapAlloc), pages * os.Getpagesize(), runtime.NumGoroutine(), len(files), bytes.Count(maps, []byte("\n"))}
}

// Many calls over many modules, more than are kept compiled, leave nothing behind.
func TestSoak(t *testing.T) {
	h := newHost(t, Config{MaxModules: 60})
	// A custom section makes a module another one.
	modules := make([][]byte, 100)
	for i := range modules {
		modules[i] = append(bytes.Clone(testdata.Wasm([]string{"echo", "hostile", "hostcall"}[i%3])), "\x00\x09\x04soak"+fmt.Sprintf("%04d", i)...)
	}
	functions := []string{"echo", "keep", "ask"}
	run := func(calls int) {
		const each = 200
		var wg sync.WaitGroup
		for g := range 2 {
			wg.Go(func() {
				for i := range calls / 2 / each {
					n := (i*7 + g*50) % len(modules)
					m, err := h.Load(t.Context(), digest.Of(modules[n]), func() ([]byte, error) { return modules[n], nil })
					if err != nil {
						t.Error(err)
						return
					}
					for k := range each {
						in := bytes.Repeat([]byte{3}, 1+2*(k%50))
						if k%20 == 19 {
							in = in[:0]
						}
						_, _ = m.Call(t.Context(), &Call{Function: functions[n%3], Input: BytesInput(in), Limits: Limits{Timeout: time.Minute}})
					}
					m.Release()
				}
			})
		}
		wg.Wait()
	}
	run(*soakCalls / 2)
	before := measure(t)
	run(*soakCalls / 2)
	after := measure(t)
	t.Logf("before %+v, after %+v", before, after)
	if after.goroutines > before.goroutines || after.files > before.files+2 || after.mappings > before.mappings+before.mappings/10+20 ||
		after.heap > before.heap+before.heap/5+4<<20 || after.resident > before.resident+before.resident/5+16<<20 {
		t.Errorf("%d calls left something behind: before %+v, after %+v", *soakCalls/2, before, after)
	}
}
