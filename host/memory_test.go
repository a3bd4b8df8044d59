package host

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

// Both ways to get memory must behave alike.
func TestMemory(t *testing.T) {
	t.Parallel()
	for name, portable := range map[string]bool{"mapped": false, "portable": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := guestMemory{budget: &budget{limit: maxMemory}, portable: portable}
			defer m.release()
			m.begin(10*wasmPage + 5)
			l := m.Allocate(0, 1<<32)
			if b := l.Reallocate(0); b == nil || len(b) != 0 {
				t.Errorf("an empty memory is %v", b)
			}
			for pages := uint64(1); pages <= 10; pages++ {
				b := l.Reallocate(pages * wasmPage)
				if uint64(len(b)) != pages*wasmPage {
					t.Fatalf("%d pages: %d bytes", pages, len(b))
				}
				for i := range pages - 1 {
					if b[i*wasmPage] != byte(i+1) || b[(i+1)*wasmPage-1] != byte(i+1) {
						t.Fatalf("page %d lost its bytes", i)
					}
				}
				fresh := b[(pages-1)*wasmPage:]
				if !bytes.Equal(fresh, make([]byte, wasmPage)) {
					t.Fatal("fresh memory is not zero")
				}
				fresh[0], fresh[wasmPage-1] = byte(pages), byte(pages)
			}
			if l.Reallocate(11*wasmPage) != nil || m.refused != 11*wasmPage || m.peak != 10*wasmPage || m.failed != 0 {
				t.Errorf("%+v", m)
			}
			l.Free()
		})
	}
}

func TestCallsOnPortableMemory(t *testing.T) {
	t.Parallel()
	h := newHost(t, Config{portableMemory: true})
	m := load(t, h, testdata.Wasm("grow"))
	stats, err := m.Call(t.Context(), &Call{Function: "grow", Limits: Limits{Memory: 3 << 20}})
	wantFault(t, err, fault.Limit, "memory_limit", "")
	if stats.PeakMemory != 3<<20 {
		t.Errorf("%+v", stats)
	}
	if stats, err = m.Call(t.Context(), &Call{Function: "some"}); err != nil || stats.PeakMemory != 257*wasmPage {
		t.Errorf("%+v, %v", stats, err)
	}
	// Less than a page: no memory at all is allowed.
	_, err = m.Call(t.Context(), &Call{Function: "some", Limits: Limits{Memory: 1000}})
	wantFault(t, err, fault.Limit, "memory_limit", "starts with 65536")
}

func TestADamagedCacheIsMadeAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for round := range 4 {
		h, err := New(t.Context(), Config{CacheDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, err = h.Inspect(t.Context(), testdata.Wasm("echo"))
		if err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*", "*"))
		if len(files) != 1 {
			t.Fatalf("round %d: the cache has %q", round, files)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		switch round {
		case 0:
			b = b[:len(b)/2]
		case 1:
			b[len(b)/2] ^= 0xff
		case 2:
			b = nil
		}
		if err := os.WriteFile(files[0], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
