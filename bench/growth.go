package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/testdata"
)

// idleCost is what nodes cost that nobody asks anything.
func idleCost(ctx context.Context, rounds int, one, three *fleet) (rows []Row, err error) {
	d := 20 * time.Second
	if rounds == 1 {
		d = 5 * time.Second
	}
	of := func(f *fleet) (map[string]float64, error) {
		sum := map[string]float64{}
		cpu := make([]float64, len(f.nodes))
		for i, p := range f.nodes {
			if cpu[i], err = p.cpu(); err != nil {
				return nil, err
			}
		}
		begin := time.Now()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(d):
		}
		n := float64(len(f.nodes))
		for i, p := range f.nodes {
			now, err := p.cpu()
			if err != nil {
				return nil, err
			}
			sum["CPU"] += 100 * (now - cpu[i]) / time.Since(begin).Seconds() / n
			m, err := p.metrics(ctx)
			if err != nil {
				return nil, err
			}
			sum["memory"] += m["process_resident_memory_bytes"] / (1 << 20) / n
			sum["goroutines"] += m["go_goroutines"] / n
		}
		return sum, nil
	}
	alone, err := of(one)
	if err != nil {
		return nil, err
	}
	each, err := of(three)
	if err != nil {
		return nil, err
	}
	for _, m := range [][2]string{{"CPU", "% of a core"}, {"memory", "MiB"}, {"goroutines", ""}} {
		rows = append(rows, Row{
			Bench: "replication", Case: "idle, 64 shards, each of three nodes", Metric: m[0], Unit: m[1],
			Wattle: each[m[0]], Beside: "one node", Other: alone[m[0]], Ratio: each[m[0]] / alone[m[0]],
		})
	}
	return rows, nil
}

// ticks is how many parts of a second Linux counts CPU time in, whatever the machine.
const ticks = 100

// cpu returns how many seconds of CPU time the process has used.
func (p *process) cpu() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The second field is the name in parentheses, which may contain anything.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	sum := 0.0
	for _, f := range fields[11:13] {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, err
		}
		sum += v
	}
	return sum / ticks, nil
}

// metrics returns those without labels.
func (p *process) metrics(ctx context.Context) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	all := map[string]float64{}
	for s := bufio.NewScanner(res.Body); s.Scan(); {
		name, value, ok := strings.Cut(s.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil {
			all[name] = v
		}
	}
	return all, nil
}

// Clients of each kind while a cluster grows.
const growingClients = 4

// growth has a node become three and then five while it is used.
func growth(ctx context.Context, rounds int) (rows []Row, err error) {
	steady := 5 * time.Second
	if rounds == 1 {
		steady = 2 * time.Second
	}
	err = withFleet(ctx, 1, func(f *fleet) error {
		first := f.nodes[0]
		for name, wasm := range map[string][]byte{"noop": testdata.Wasm("noop"), "echo": testdata.Wasm("echo")} {
			if _, _, err := first.Push(ctx, name, wasm, client.PushOptions{}); err != nil {
				return err
			}
		}
		busy, stop := context.WithCancel(ctx)
		jobs, calls := &background{}, &background{}
		for range growingClients {
			c := client.Dial(first.addr)
			defer c.Close()
			jobs.run(busy, func(ctx context.Context) error { return runOne(ctx, &process{Client: c}, noops(1)) })
			calls.run(busy, func(ctx context.Context) error {
				_, err := c.Invoke(ctx, "echo/echo", []byte(hundred))
				return err
			})
		}
		defer sync.OnceFunc(func() { stop(); jobs.wg.Wait(); calls.wg.Wait() })()
		base := map[string]float64{}
		during := func(name string, fn func() error) error {
			was := map[string]int64{"jobs": jobs.done.Load(), "calls": calls.done.Load()}
			begin := time.Now()
			if err := fn(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			took := time.Since(begin).Seconds()
			for _, b := range []struct {
				name string
				of   *background
			}{{"jobs", jobs}, {"calls", calls}} {
				v := float64(b.of.done.Load()-was[b.name]) / took
				if _, ok := base[b.name]; !ok {
					base[b.name] = v
				}
				rows = append(rows, Row{Bench: "replication", Case: name, Metric: b.name, Unit: "1/s", Wattle: v, Beside: "before it grew", Other: base[b.name], Ratio: v / base[b.name]})
			}
			if strings.Contains(name, "become") {
				rows = append(rows, Row{Bench: "replication", Case: name, Metric: "time", Unit: "s", Wattle: took, Beside: "nothing"})
			}
			return nil
		}
		hold := func() error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(steady):
				return nil
			}
		}
		two := func() error {
			for range 2 {
				if err := f.add(ctx); err != nil {
					return err
				}
			}
			return f.whole(ctx)
		}
		for _, s := range []struct {
			name string
			fn   func() error
		}{{"one node", hold}, {"one node becomes three", two}, {"three nodes", hold}, {"three nodes become five", two}, {"five nodes", hold}} {
			if err := during(s.name, s.fn); err != nil {
				return err
			}
		}
		stop()
		for _, b := range []struct {
			name string
			of   *background
		}{{"jobs", jobs}, {"calls", calls}} {
			if err := b.of.wait(); err != nil {
				fmt.Fprintf(os.Stderr, "growth: %s: %v\n", b.name, err)
			}
			rows = append(rows, Row{Bench: "replication", Case: "growth, errors at the client", Metric: b.name, Wattle: float64(b.of.failed.Load()), Beside: "allowed"})
		}
		return nil
	})
	return rows, err
}
