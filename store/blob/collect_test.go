package blob

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

func collect(t *testing.T, s *Store, keep ...digest.Digest) (int, int64) {
	t.Helper()
	c := s.BeginCollect()
	for _, d := range keep {
		c.Keep(d)
	}
	n, b, err := c.Finish(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return n, b
}

func TestCollect(t *testing.T) {
	t.Parallel()
	clk := newClock()
	mem := vfs.NewMem()
	opts := Options{Now: clk.now, PinTTL: time.Minute}
	s := open(t, mem, opts)
	kept, pinned, read, gone := put(t, s, []byte("kept")), put(t, s, []byte("pinned")), put(t, s, []byte("read")), put(t, s, []byte("gone"))
	if n, _ := collect(t, s); n != 0 {
		t.Fatal("a fresh blob was collected")
	}
	clk.add(time.Minute)
	s = open(t, mem, opts)
	if n, _ := collect(t, s); n != 0 {
		t.Fatal("a blob found at Open was collected")
	}
	clk.add(time.Minute)
	s.Pin(pinned)
	r, err := s.Open(read)
	if err != nil {
		t.Fatal(err)
	}
	c := s.BeginCollect()
	c.Keep(kept)
	late, again := put(t, s, []byte("late")), put(t, s, []byte("again"))
	// However long the mark takes, what was put after it began stays.
	clk.add(time.Hour)
	s.Pin(pinned)
	if n, b, err := c.Finish(context.Background()); n != 1 || b != 4 || err != nil {
		t.Fatal(n, b, err)
	}
	if _, ok := s.Stat(gone); ok {
		t.Fatal("garbage stayed")
	}
	for _, d := range []digest.Digest{kept, pinned, read, late, again} {
		if _, ok := s.Stat(d); !ok {
			t.Fatalf("%s was collected", d)
		}
	}
	_ = r.Close()
	if n, _ := collect(t, s, late, kept); n != 2 {
		t.Fatalf("%d removed, not what was read and again", n)
	}
	clk.add(time.Minute)
	if n, _ := collect(t, s); n != 3 {
		t.Fatalf("%d removed", n)
	}
	if n, b := s.Usage(); n != 0 || b != 0 || len(files(mem, "blobs")) != 0 {
		t.Fatal(n, b)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := s.BeginCollect().Finish(ctx); err == nil {
		t.Fatal("finished without its context")
	}
}

// TestCollectRaces lets collections run against everything else with pins that are over at once for all but
// those that count. A blob between Put and Keep is never lost.
func TestCollectRaces(t *testing.T) {
	t.Parallel()
	s := open(t, vfs.NewMem(), Options{})
	stop := make(chan struct{})
	var live sync.Map
	var workers, collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// Pins have no time in this test but what epochs give: age them by hand.
			for i := range s.fans {
				s.fans[i].mu.Lock()
				for _, e := range s.fans[i].entries {
					e.pinned = time.Time{}
				}
				s.fans[i].mu.Unlock()
			}
			c := s.BeginCollect()
			live.Range(func(k, _ any) bool { c.Keep(k.(digest.Digest)); return true })
			if _, _, err := c.Finish(context.Background()); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for w := range 4 {
		workers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range 400 {
				data := fmt.Append(nil, "content ", rng.IntN(20))
				d, _, err := s.Put(context.Background(), bytes.NewReader(data))
				if err != nil {
					t.Error(err)
					return
				}
				s.Pin(d)
				b, err := s.Open(d)
				if err != nil {
					if fault.Reason(err) != "unknown_blob" {
						t.Error(err)
						return
					}
					continue
				}
				if got, err := io.ReadAll(b.Reader(0, b.Size())); err != nil || !bytes.Equal(got, data) {
					t.Errorf("read %q, %v", got, err)
				}
				live.Store(d, true)
				// Open and referenced: it must outlive every collection.
				if _, ok := s.Stat(d); !ok {
					t.Error("a blob being read was collected")
				}
				_ = b.Close()
			}
		})
	}
	workers.Wait()
	close(stop)
	collector.Wait()
	live.Range(func(k, _ any) bool {
		if _, err := readAll(s, k.(digest.Digest)); err != nil {
			t.Error(err)
		}
		return true
	})
}

// TestAgainstMap does random things to a store and to a map.
func TestAgainstMap(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 1))
		clk := newClock()
		mem := vfs.NewMem()
		opts := Options{Now: clk.now, PinTTL: time.Minute}
		s := open(t, mem, opts)
		want := map[digest.Digest][]byte{}
		pins := map[digest.Digest]time.Time{}
		some := func() []byte { return fmt.Append(nil, "content ", rng.IntN(30)) }
		for range 300 {
			data := some()
			d := digest.Of(data)
			switch rng.IntN(9) {
			case 0:
				if err := s.Delete(d); err != nil {
					t.Fatal(err)
				}
				delete(want, d)
			case 1:
				clk.add(time.Duration(rng.IntN(40)) * time.Second)
			case 2:
				c := s.BeginCollect()
				c.Keep(d)
				for w := range want {
					if w != d && !clk.now().Before(pins[w]) {
						delete(want, w)
					}
				}
				if _, _, err := c.Finish(context.Background()); err != nil {
					t.Fatal(err)
				}
			case 3:
				s = open(t, mem, opts)
				for w := range want {
					pins[w] = clk.now().Add(time.Minute)
				}
			case 4:
				s.Pin(d)
				pins[d] = clk.now().Add(time.Minute)
			case 5:
				if err := uploadAll(s, data); err != nil {
					t.Fatal(err)
				}
				want[d], pins[d] = data, clk.now().Add(time.Minute)
			default:
				put(t, s, data)
				want[d], pins[d] = data, clk.now().Add(time.Minute)
			}
			data = some()
			d = digest.Of(data)
			got, err := readAll(s, d)
			if w, ok := want[d]; ok && (err != nil || !bytes.Equal(got, w)) || !ok && fault.Reason(err) != "unknown_blob" {
				t.Fatalf("seed %d: %q: got %q, %v", seed, data, got, err)
			}
			if n, _ := s.Usage(); n != len(want) {
				t.Fatalf("seed %d: %d blobs, want %d", seed, n, len(want))
			}
		}
	}
}
