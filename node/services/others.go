package services

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/shard"
)

// Peers is what calling needs of other nodes.
type Peers interface {
	// Others returns those that seem to be there.
	Others() []shard.NodeID
	// Nodes asks nodes about themselves. Those that do not answer are left out.
	Nodes(ctx context.Context, ids []shard.NodeID) map[shard.NodeID]*wattlev1.Node
	// Invoke has a node run a call.
	Invoke(ctx context.Context, to shard.NodeID, req *peerv1.InvokeRequest) peers.Outcome
}

// Others is what a node knows of the load of the others. It learns from every answer, and asks while somebody wants to know. It
// may be used concurrently.
type Others struct {
	Self  shard.NodeID
	Slots int
	Peers Peers
	Calls *Calls
	// Known tells whether a node is a member, also one that is away.
	Known func(shard.NodeID) bool
	// Stopping is done when nobody is asked any more.
	Stopping context.Context

	mu     sync.Mutex
	known  map[shard.NodeID]*load
	asked  time.Time
	asking bool
	rounds sync.Map // of *atomic.Uint64, by service: how many calls were dealt round robin
}

// load is what is known of a node.
type load struct {
	// calls are those it said were under way, and those sent since.
	calls, most, slots uint32
	// away is until when it is not asked, because it did not answer so many times.
	away   time.Time
	silent int
	// heard is when it answered last, and probe is closed when it does, or does not, where somebody waits for that.
	heard time.Time
	probe chan struct{}
}

const (
	// freshFor is how long a node's load is good enough; with many nodes they are asked less often.
	freshFor, freshEach = 200 * time.Millisecond, 5 * time.Millisecond
	// awayFor is how long a node that did not answer is let alone, twice as long each time: gossip will know by then. If not, it may
	// be there and hang, and each call that it is asked to run hangs with it.
	awayFor, awayMost = 2 * time.Second, 30 * time.Second
	// heardFor is how long after its last answer a node is sent a call without being asked first whether it is there, and probeFor
	// how long it may take to say so. A call that was sent is in its hands; who finds out before has it run elsewhere.
	heardFor, probeFor = 250 * time.Millisecond, 500 * time.Millisecond
)

// of returns what is known of a node; mu is held.
func (o *Others) of(id shard.NodeID) *load {
	l := o.known[id]
	if l == nil {
		if o.known == nil {
			o.known = map[shard.NodeID]*load{}
		}
		l = &load{}
		o.known[id] = l
	}
	return l
}

// there returns the other nodes that may be asked, in the order of their ids.
func (o *Others) there() []shard.NodeID {
	now := time.Now()
	all := o.Peers.Others()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.known) > len(all) {
		maps.DeleteFunc(o.known, func(id shard.NodeID, _ *load) bool { return !slices.Contains(all, id) })
	}
	all = slices.DeleteFunc(all, func(id shard.NodeID) bool { l := o.known[id]; return l != nil && now.Before(l.away) })
	slices.Sort(all)
	return all
}

// sent notes that a call is on its way to a node.
func (o *Others) sent(id shard.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of(id).calls++
}

// said notes what a node said of its load.
func (o *Others) said(id shard.NodeID, calls, most uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of(id).say(calls, most)
}

func (l *load) say(calls, most uint32) {
	l.calls, l.most, l.heard = calls, most, time.Now()
	l.away, l.silent = time.Time{}, 0
}

// silent notes that a node did not answer.
func (o *Others) silent(id shard.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.of(id).leave()
}

// leave lets a node alone for a while. All calls that end with it are one time that it did not answer.
func (l *load) leave() {
	if time.Now().Before(l.away) {
		return
	}
	l.away = time.Now().Add(min(awayFor<<min(l.silent, 10), awayMost))
	l.silent++
}

// look asks the others for their load, unless that was done lately. It does not wait for what they say.
func (o *Others) look(ids []shard.NodeID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asking || len(ids) == 0 || time.Since(o.asked) < max(freshFor, time.Duration(len(ids))*freshEach) || o.Stopping.Err() != nil {
		return
	}
	o.asking = true
	go o.ask(ids)
}

func (o *Others) ask(ids []shard.NodeID) {
	answers := o.Peers.Nodes(o.Stopping, ids)
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking, o.asked = false, time.Now()
	for _, id := range ids {
		o.of(id).hear(answers[id])
	}
}

// hear takes what a node said of itself, nil if it did not answer.
func (l *load) hear(n *wattlev1.Node) {
	if n == nil || !n.Ready {
		l.leave()
		return
	}
	l.slots = n.Slots
	l.say(n.Calls, n.MaxCalls)
}

// answers tells whether a node is there: it was heard of just now, or says so when it is asked.
func (o *Others) answers(ctx context.Context, id shard.NodeID) bool {
	o.mu.Lock()
	l := o.of(id)
	if time.Since(l.heard) < heardFor {
		o.mu.Unlock()
		return true
	}
	probe := l.probe
	if probe == nil {
		probe = make(chan struct{})
		l.probe = probe
		go func() {
			ctx, cancel := context.WithTimeout(o.Stopping, probeFor)
			defer cancel()
			said := o.Peers.Nodes(ctx, []shard.NodeID{id})[id]
			o.mu.Lock()
			defer o.mu.Unlock()
			l.hear(said)
			l.probe = nil
			close(probe)
		}()
	}
	o.mu.Unlock()
	select {
	case <-probe:
	case <-ctx.Done():
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return l.silent == 0
}

// chosen answers which node a service's balance wants to run a call; "" is this one.
func (o *Others) chosen(s *wattlev1.Service, key string) shard.NodeID {
	b := s.GetBalance()
	if b == nil || b.Mode == wattlev1.BalanceMode_BALANCE_MODE_HASH && key == "" {
		return ""
	}
	ids := o.there()
	if b.Mode == wattlev1.BalanceMode_BALANCE_MODE_RANDOM || b.Mode == wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE {
		o.look(ids)
	}
	at, _ := slices.BinarySearch(ids, o.Self)
	ids = slices.Insert(ids, at, o.Self)
	draw := rand.Uint64()
	if b.Mode == wattlev1.BalanceMode_BALANCE_MODE_ROUND_ROBIN {
		n, _ := o.rounds.LoadOrStore(s.Name, new(atomic.Uint64))
		draw = n.(*atomic.Uint64).Add(1)
	}
	i := choose(b.Mode, key, draw, o.candidates(ids, b.Weights))
	if i < 0 || ids[i] == o.Self {
		return ""
	}
	return ids[i]
}

func (o *Others) candidates(ids []shard.NodeID, weights map[string]uint32) []candidate {
	all := make([]candidate, len(ids))
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, id := range ids {
		c := candidate{id: id, weight: uint32(o.Slots)} // like this one, until it says otherwise
		if id == o.Self {
			c.calls = uint32(max(o.Calls.under.Load(), 0))
		} else if l := o.known[id]; l != nil {
			if c.calls = l.calls; l.slots > 0 {
				c.weight = l.slots
			}
		}
		if w, ok := weights[string(id)]; ok {
			c.weight = w
		}
		all[i] = c
	}
	return all
}

// roomier answers a node with clearly more room than this one has: the better of two drawn, since the best would be everybody's
// choice (Mitzenmacher, 2001). "" is none.
func (o *Others) roomier() shard.NodeID {
	ids := o.there()
	o.look(ids)
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	ids = ids[:min(2, len(ids))]
	mine := float64(o.Calls.under.Load()) / float64(o.Calls.most)
	best, least := shard.NodeID(""), 0.75*mine
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, id := range ids {
		full := 0.0
		if l := o.known[id]; l != nil && l.most > 0 {
			full = float64(l.calls) / float64(l.most)
		}
		if full <= least {
			best, least = id, full
		}
	}
	return best
}
