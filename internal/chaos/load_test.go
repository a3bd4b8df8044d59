package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/plugintest"
	"github.com/wattlehq/wattle/testdata"
)

// publish brings what the load needs to all nodes.
func (r *run) publish() {
	r.texts()
	first := r.net.machines[0].client
	modules := map[string][]byte{"wordcount": plugintest.Build(r.t, "wordcount")}
	for _, name := range []string{"echo", "nap", "mapreduce"} {
		modules[name] = testdata.Wasm(name)
	}
	for name, wasm := range modules {
		if _, _, err := first.Push(r.ctx, name, wasm, client.PushOptions{}); err != nil {
			r.t.Fatal("push ", name, ": ", err)
		}
	}
	for _, m := range r.net.machines {
		var err error
		if !r.until(drainTime, func() string {
			var got []byte
			if got, err = m.client.Invoke(r.ctx, "echo/echo", []byte("hello")); err != nil || string(got) != "hello" {
				return fmt.Sprintf("%q, %v", got, err)
			}
			return ""
		}) {
			r.t.Fatalf("node %d does not answer: %v", m.n, err)
		}
	}
}

// load starts the clients.
func (r *run) load(ctx context.Context, wg *sync.WaitGroup) {
	for _, m := range r.net.machines {
		for i := range 2 {
			wg.Go(func() { r.call(ctx, m, i) })
		}
	}
	for i := range 6 {
		wg.Go(func() { r.submitJobs(ctx, i) })
	}
	for i := range 3 {
		wg.Go(func() { r.pushVersions(ctx, i) })
	}
}

// calls is what came of them.
type calls struct {
	mu                         sync.Mutex
	answered, excused, refused int
	apart                      int             // answered in time although some machines could not hear each other
	took                       []time.Duration // of those that had to be answered; some, drawn evenly
	slowest                    time.Duration
}

func newCalls() *calls { return &calls{} }

const kept = 10000

func (c *calls) note(took time.Duration, err error, judged, apart bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if judged && apart && err == nil {
		c.apart++
	}
	switch {
	case err == nil:
		c.answered++
	case judged:
		c.refused++
	default:
		c.excused++
	}
	if !judged {
		return
	}
	c.slowest = max(c.slowest, took)
	if len(c.took) < kept {
		c.took = append(c.took, took)
	} else if i := rand.IntN(c.answered + 1); i < kept {
		c.took[i] = took
	}
}

func (c *calls) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := quantiles(c.took, 0.5, 0.99, 0.999)
	return fmt.Sprintf("%d answered, %d of them on a side of a partition; %d not while the node itself was down, frozen, slow or full, %d not although it had to; half within %s, 99%% within %s, 99.9%% within %s, the slowest %s",
		c.answered, c.apart, c.excused, c.refused, at[0], at[1], at[2], c.slowest.Round(time.Millisecond))
}

// call calls a function on one node, again and again. It must answer within callTime whatever happens to other nodes and to the network.
func (r *run) call(ctx context.Context, m *machine, caller int) {
	for i := 0; pause(ctx, 40*time.Millisecond); i++ {
		payload := fmt.Appendf(nil, "call %d of caller %d at machine %d", i, caller, m.n)
		fine, epoch := m.health()
		apart := r.net.apart()
		// The end of the run does not end a call.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTime)
		start := time.Now()
		got, err := m.client.Invoke(once, "echo/echo", payload)
		took := time.Since(start)
		cancel()
		if err == nil && !bytes.Equal(got, payload) {
			r.violate("call %q answered %q", payload, got)
		}
		still, now := m.health()
		judged := fine && still && epoch == now
		r.calls.note(took, err, judged, apart && r.net.apart())
		if err != nil && judged {
			r.violate("call %q failed after %s although node %d was there: %v", payload, took.Round(time.Millisecond), m.n, err)
		}
	}
}

// one returns any machine.
func (r *run) one(rng *rand.Rand) *machine { return r.net.machines[rng.IntN(len(r.net.machines))] }

// pushVersions publishes versions that say which they are, and points aliases at them.
func (r *run) pushVersions(ctx context.Context, who int) {
	rng := rand.New(rand.NewPCG(uint64(r.begun.UnixNano()), uint64(100+who)))
	alias := r.book.newAlias()
	for n := 1; pause(ctx, 1500*time.Millisecond); n++ {
		stamp := fmt.Sprintf("%d%015d", who+1, n)
		wasm := bytes.Replace(testdata.Wasm("stamp"), []byte("0000000000000000"), []byte(stamp), 1)
		v, err := r.push(ctx, rng, wasm)
		if err != nil {
			r.book.unanswered("push")
			continue
		}
		if other, ok := r.book.pushed(v.Number, stamp); !ok {
			r.violate("version %d of stamp was acknowledged for %s and for %s", v.Number, other, stamp)
		}
		once, cancel := context.WithTimeout(ctx, askTime)
		_, err = r.one(rng).client.Registry.SetAlias(once, connect.NewRequest(&wattlev1.SetAliasRequest{Service: "stamp", Alias: alias.name, Number: v.Number}))
		cancel()
		// A move without an answer may come about, even later: nothing more is done with that alias.
		if r.book.moved(alias, v.Number, err == nil); err != nil {
			r.book.unanswered("alias")
			alias = r.book.newAlias()
		}
	}
}

func (r *run) push(ctx context.Context, rng *rand.Rand, wasm []byte) (*wattlev1.Version, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*askTime)
	defer cancel()
	v, _, err := r.one(rng).client.Push(ctx, "stamp", wasm, client.PushOptions{})
	return v, err
}
