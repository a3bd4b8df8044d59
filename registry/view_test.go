package registry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

func service(name string, revision uint64) *wattlev1.Service {
	return &wattlev1.Service{Name: name, Revision: revision, Versions: []*wattlev1.Version{{Service: name, Number: revision}}}
}

func set(name string, revision uint64) Changed {
	return Changed{Service: service(name, revision), Revision: revision}
}

func TestViewIgnoresOldNews(t *testing.T) {
	t.Parallel()
	v := NewView()
	gone := func(name string) {
		t.Helper()
		if _, err := v.Service(name); fault.Reason(err) != "unknown_service" {
			t.Fatalf("%s is there", name)
		}
	}
	at := func(name string, revision uint64) {
		t.Helper()
		if s, err := v.Service(name); err != nil || s.Revision != revision {
			t.Fatalf("%s: %v, %v, want r%d", name, s, err, revision)
		}
	}
	v.Apply(Changed{})
	v.Apply(set("a", 5))
	v.Apply(set("a", 3))
	at("a", 5)
	v.Apply(Changed{Deleted: "a", Revision: 6})
	v.Apply(set("a", 5))
	gone("a")
	v.Apply(set("b", 8))
	// The snapshot is older than b, and knows that c went before.
	v.Load([]*wattlev1.Service{service("d", 2), service("b", 1)}, 7)
	at("b", 8)
	at("d", 2)
	v.Apply(set("c", 4))
	gone("c")
	v.Apply(Changed{Deleted: "b", Revision: 9})
	v.Load([]*wattlev1.Service{service("b", 8)}, 8)
	gone("b")
	gone("d")
	v.Load([]*wattlev1.Service{service("d", 2)}, 7)
	gone("d")
	if v.Revision() != 9 {
		t.Fatal(v.Revision())
	}
}

func TestLimitsFor(t *testing.T) {
	t.Parallel()
	v := &wattlev1.Version{
		Limits: &wattlev1.Limits{MemoryBytes: 10, Timeout: durationpb.New(time.Second), LogBytes: 5},
		FunctionLimits: map[string]*wattlev1.Limits{
			"f": {MemoryBytes: 20, OutputBytes: 7},
			"g": {Timeout: durationpb.New(time.Minute)},
			"h": {Timeout: durationpb.New(0)},
		},
	}
	for name, want := range map[string]*wattlev1.Limits{
		"f": {MemoryBytes: 20, OutputBytes: 7, Timeout: durationpb.New(time.Second), LogBytes: 5},
		"g": {MemoryBytes: 10, Timeout: durationpb.New(time.Minute), LogBytes: 5},
		"h": {MemoryBytes: 10, Timeout: durationpb.New(time.Second), LogBytes: 5},
		"x": {MemoryBytes: 10, Timeout: durationpb.New(time.Second), LogBytes: 5},
	} {
		if got := LimitsFor(v, name); !proto.Equal(got, want) {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := LimitsFor(&wattlev1.Version{}, "f"); !proto.Equal(got, &wattlev1.Limits{}) {
		t.Error(got)
	}
}

// TestWatch follows a view while it changes, with a reader that is sometimes slow.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := NewView()
		v.Load([]*wattlev1.Service{service("b", 2), service("a", 1)}, 3)
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		gate := make(chan struct{}, 100)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for m := range v.Watch(ctx) {
				switch c := m.Change.(type) {
				case *wattlev1.WatchServicesResponse_Service:
					got = append(got, fmt.Sprintf("%s r%d", c.Service.Name, m.Revision))
				case *wattlev1.WatchServicesResponse_Deleted:
					got = append(got, fmt.Sprintf("-%s r%d", c.Deleted, m.Revision))
				default:
					got = append(got, fmt.Sprintf("synced r%d", m.Revision))
				}
				<-gate
			}
		}()
		let := func(n int) {
			for range n {
				gate <- struct{}{}
			}
			synctest.Wait()
		}
		want := func(list ...string) {
			t.Helper()
			if fmt.Sprint(got) != fmt.Sprint(list) {
				t.Fatalf("got %v, want %v", got, list)
			}
			got = nil
		}
		let(2)
		want("a r1", "b r2", "synced r3")
		let(1)
		want()
		v.Apply(set("c", 4))
		synctest.Wait()
		// The reader sits on c; what comes now is for later, the last of each service only.
		for r := uint64(5); r < 50; r += 3 {
			v.Apply(set("a", r))
			v.Apply(set("b", r+1))
			v.Apply(Changed{Deleted: "c", Revision: r + 2})
		}
		v.Apply(set("d", 60))
		let(4)
		want("c r4", "a r47", "b r48", "-c r49", "d r60")
		// What gets newer while its batch is being read is not shown twice.
		let(1)
		v.Apply(set("a", 61))
		synctest.Wait()
		v.Apply(set("b", 62))
		v.Apply(set("d", 63))
		let(1)
		v.Apply(set("d", 64))
		let(1)
		want("a r61", "b r62", "d r64")
		v.Load([]*wattlev1.Service{service("a", 61), service("d", 70)}, 71)
		let(3)
		want("d r70", "-b r71")
		cancel()
		<-done
		if len(v.watchers) != 0 {
			t.Fatal("a watcher stayed")
		}
		for range v.Watch(t.Context()) {
			break
		}
		if len(v.watchers) != 0 {
			t.Fatal("a watcher that left its loop stayed")
		}
	})
}

// TestViewHammer reads and watches while writers change everything: no reader sees a service go back, and every
// watcher ends with what is there.
func TestViewHammer(t *testing.T) {
	t.Parallel()
	const names, changes = 8, 3000
	const final = changes*4 + 1
	v := NewView()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var revision uint64
	var mu sync.Mutex
	next := func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		revision++
		return revision
	}
	var writers, readers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 0))
			for range changes {
				name := fmt.Sprint("s", rng.IntN(names))
				if rng.IntN(4) == 0 {
					v.Apply(Changed{Deleted: name, Revision: next()})
				} else {
					v.Apply(set(name, next()))
				}
			}
		})
	}
	for range 3 {
		readers.Go(func() {
			last := map[string]uint64{}
			for ctx.Err() == nil {
				for _, s := range v.Services() {
					if s.Revision < last[s.Name] {
						t.Errorf("%s went back from r%d to r%d", s.Name, last[s.Name], s.Revision)
						return
					}
					last[s.Name] = s.Revision
					if got, err := v.Resolve(Ref{Service: s.Name}); err == nil && got.Number < s.Revision {
						t.Errorf("%s resolved to %d, r%d was there", s.Name, got.Number, s.Revision)
						return
					}
				}
				_ = v.Revision()
			}
		})
	}
	views := make([]map[string]uint64, 3)
	var watchers sync.WaitGroup
	for i := range views {
		watchers.Go(func() {
			seen := map[string]uint64{}
			views[i] = seen
			for m := range v.Watch(ctx) {
				switch c := m.Change.(type) {
				case *wattlev1.WatchServicesResponse_Service:
					seen[c.Service.Name] = m.Revision
				case *wattlev1.WatchServicesResponse_Deleted:
					delete(seen, c.Deleted)
				}
				if m.Revision == final {
					return
				}
			}
		})
	}
	writers.Wait()
	v.Apply(set("last", final))
	watchers.Wait()
	cancel()
	readers.Wait()
	want := map[string]uint64{}
	for _, s := range v.Services() {
		want[s.Name] = s.Revision
	}
	for i, seen := range views {
		if fmt.Sprint(seen) != fmt.Sprint(want) {
			t.Errorf("watcher %d ended with %v, want %v", i, seen, want)
		}
	}
}

func BenchmarkResolve(b *testing.B) {
	v := NewView()
	for i := range uint64(100) {
		s := service(fmt.Sprint("service-", i), i+1)
		s.Versions[0].Functions = []*wattlev1.Function{{Name: "main"}}
		s.Aliases = map[string]uint64{"prod": i + 1}
		v.Apply(Changed{Service: s, Revision: i + 1})
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := v.Resolve(Ref{"service-50", "prod", "main"}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
