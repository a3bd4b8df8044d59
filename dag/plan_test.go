package dag

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// fakes resolve s/map to a map and so on, know three files, and keep what is put.
type fakes struct{ blobs map[digest.Digest][]byte }

func (fakes) ResolveFunction(ref string) (*storev1.PlanFunction, error) {
	kinds := map[string]wattlev1.FunctionKind{"call": 1, "map": 2, "reduce": 3, "combine": 4}
	_, name, _ := strings.Cut(ref, "/")
	if kinds[name] == 0 {
		return nil, fault.New(fault.NotFound, "unknown_function", "there is no %s", ref)
	}
	return &storev1.PlanFunction{Service: "s", Number: 1, Function: name, Kind: kinds[name]}, nil
}

func (fakes) List(context.Context, string, string) ([]File, error) {
	return []File{{Name: "a", Size: 10, Modified: epoch}, {Name: "b", Size: 1000, Modified: epoch}, {Name: "c", Size: 10, Modified: epoch}}, nil
}

func (f fakes) Put(_ context.Context, r io.Reader) (digest.Digest, int64, error) {
	b, err := io.ReadAll(r)
	f.blobs[digest.Of(b)] = b
	return digest.Of(b), int64(len(b)), err
}

func plan(t testing.TB, text string) (*storev1.Plan, fakes) {
	t.Helper()
	spec, err := ParseSpec([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	f := fakes{map[digest.Digest][]byte{}}
	p, err := (&Planner{Resolver: f, Files: f, Blobs: f, Partitions: func() uint32 { return 7 }}).Plan(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return p, f
}

func TestPlan(t *testing.T) {
	t.Parallel()
	p, _ := plan(t, `
name: all
timeout: 60s
stages:
  - {name: report, function: s/call, collect: total, after: [extra, total]}
  - {name: total, function: s/reduce, reduce: count}
  - {name: again, function: s/reduce, reduce: {stage: total2, partitions: 2}}
  - {name: total2, function: s/reduce, reduce: {stage: count2, partitions: 3}}
  - {name: count2, function: s/map, value: x}
  - {name: count, function: s/map, combiner: s/combine, files: {dir: /x, split_bytes: 100}, timeout: 5s, max_parallel: 3, retry: {max_attempts: 1, backoff: 0s}}
  - {name: extra, function: s/call, each: items}
  - {name: items, function: s/call, items: [a, bb, ccc]}
`)
	at := func(name string) uint32 {
		return uint32(slices.IndexFunc(p.Stages, func(s *storev1.PlanStage) bool { return s.Name == name }))
	}
	for i, s := range p.Stages {
		for _, a := range s.After {
			if a >= uint32(i) {
				t.Errorf("%s comes before stage %d, which it needs", s.Name, a)
			}
		}
	}
	for name, want := range map[string]struct {
		tasks, partitions uint32
		after             []string
		result            bool
	}{
		"report": {1, 0, []string{"extra", "total"}, true}, "total": {7, 0, []string{"count"}, false}, "again": {2, 0, []string{"total2"}, true},
		"total2": {3, 2, []string{"count2"}, false}, "count2": {1, 3, nil, false}, "count": {11, 7, nil, false},
		"extra": {3, 0, []string{"items"}, true}, "items": {3, 0, nil, false},
	} {
		s := p.Stages[at(name)]
		var after []string
		for _, a := range s.After {
			after = append(after, p.Stages[a].Name)
		}
		slices.Sort(after)
		if s.Tasks != want.tasks || s.Partitions != want.partitions || !slices.Equal(after, want.after) || s.Result != want.result {
			t.Errorf("%s: %d tasks, %d partitions, after %v, result %v; want %v", name, s.Tasks, s.Partitions, after, s.Result, want)
		}
	}
	c := p.Stages[at("count")]
	if c.Timeout != int64(5*time.Second) || c.MaxParallel != 3 || c.Retry.MaxAttempts != 1 || c.Retry.Backoff != 0 || c.Retry.MaxBackoff != int64(time.Minute) || c.InputBytes != 1020 {
		t.Errorf("%v", c)
	}
	if r := p.Stages[at("items")].Retry; r.MaxAttempts != 3 || r.Backoff != int64(time.Second) || p.Timeout != int64(time.Minute) {
		t.Errorf("defaults: %v, timeout %d", r, p.Timeout)
	}
	if p.Stages[at("extra")].From != at("items") {
		t.Error("extra reads another stage")
	}
}

// Small tables travel in the plan, large ones as blobs, and both say the same.
func TestPlanTables(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 100, 20_000} {
		p, f := plan(t, "stages: [{name: a, function: s/call, items: ["+strings.Repeat("item, ", n-1)+"last]}]")
		table := p.Stages[0].Table
		b := table.Inline
		if table.Digest != "" {
			d, err := digest.Parse(table.Digest)
			if err != nil {
				t.Fatal(err)
			}
			b = f.blobs[d]
		}
		if (table.Digest != "") != (len(b) > InlineBytes) || int(table.Size) != len(b) {
			t.Errorf("%d items: %d bytes, digest %q", n, len(b), table.Digest)
		}
		last, err := TableEntry(strings.NewReader(string(b)), int64(len(b)), uint32(n), uint32(n-1))
		if err != nil || string(last) != "last" {
			t.Errorf("%d items: %q, %v", n, last, err)
		}
	}
}
