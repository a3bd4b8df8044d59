package node

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/member"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/secret"
	"github.com/wattlehq/wattle/shard"
)

// handOverTime is how long a node that stops waits for others to lead in its place.
const handOverTime = 2 * time.Second

// startPatience is how long a start waits for others, without whom there is no quorum: then this node serves calls by what it knows.
const startPatience = 10 * time.Second

// catchUpPatience is how long it waits then for what others know of the registry and the secrets.
const catchUpPatience = 5 * time.Second

// runShards runs the engine. The next part may start when its shards have leaders, or when it is clear that others are missing.
func (n *Node) runShards(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- n.engine.Run(running) }()
	select {
	case <-n.engine.Ready():
	case <-time.After(startPatience):
		slog.Warn("not every shard has a leader: are enough of the other nodes there?")
	case <-ctx.Done():
	case err := <-done:
		return err
	}
	close(n.led)
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(running, handOverTime)
	defer cancel()
	n.engine.HandOver(grace)
	stop()
	return <-done
}

// catchUp loads what is kept in memory of the registry, the secrets and the decisions about nodes: as they are, or, if nobody can tell, as this node knew them last.
func (n *Node) catchUp(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, catchUpPatience)
	defer cancel()
	for _, v := range n.views() {
		err := n.router.Read(asking, v.slot, v.machine, v.load)
		if fault.KindOf(err) == fault.Unavailable || err != nil && asking.Err() != nil && ctx.Err() == nil {
			slog.Warn("beginning with what this node knew last", "error", err)
			err = n.engine.Peek(v.slot, v.machine, v.load)
		}
		if err != nil {
			return err
		}
	}
	close(n.caughtUp)
	var wg sync.WaitGroup
	wg.Go(func() { n.spreadNews(ctx) })
	n.follow(ctx)
	wg.Wait()
	return nil
}

// news is the topic of gossip that says that there is something new in the registry or the secrets.
const news = "news"

// newsInterval is the time between two of them at least: gossip is slow, and thousands of changes a second are one piece of news.
const newsInterval = 100 * time.Millisecond

// spreadNews gossips that there is something new, whenever the node that leads says so to itself.
func (n *Node) spreadNews(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.changed:
		}
		if err := n.cluster.Tell(news, nil); err != nil {
			slog.Debug("news not spread", "error", err) // those who wait for them look by themselves
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(newsInterval):
		}
	}
}

// heard is told of what others spread.
func (n *Node) heard(topic string, _ []byte) {
	if topic == news {
		poke(n.look)
	}
}

// poke leaves a word for who waits at a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// followInterval is how often a node looks at what its own replicas do not tell it, if it hears no news; each of many looks less often,
// so that all together cost what a few do.
const followInterval = 2 * time.Second

// follow keeps what is in memory of the registry, the secrets and the decisions about nodes fresh on a node that has no replica of their shards. What has
// not changed since the last time is not fetched.
func (n *Node) follow(ctx context.Context) {
	known := map[machine.ID]*peerv1.Unless{}
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if i%n.sparing() != 0 {
				continue
			}
		case <-n.look:
		}
		here := map[shard.ID]bool{}
		for _, s := range n.engine.Status() {
			here[s.ID] = true
		}
		for _, v := range n.views() {
			if here[n.engine.Table().Of(v.slot)] {
				continue
			}
			err := n.router.ReadUnless(ctx, v.slot, v.machine, known[v.machine], func(r machine.Reader) error {
				revision, _ := r.Get(v.revision)
				known[v.machine] = &peerv1.Unless{Key: v.revision, Value: slices.Clone(revision)}
				return v.load(r)
			})
			if err != nil && ctx.Err() == nil {
				slog.Warn("going on with what this node knew last", "error", err)
			}
		}
	}
}

// view is something kept in memory of a machine's state.
type view struct {
	slot    machine.Slot
	machine machine.ID
	// revision is a key whose value is another one after every change.
	revision []byte
	load     func(machine.Reader) error
}

func (n *Node) views() []view {
	return []view{
		{registry.Slot, machine.Registry, registry.RevisionKey(), n.loadRegistry},
		{secret.Slot, machine.Secrets, secret.RevisionKey(), n.loadSecrets},
		{member.Slot, machine.Members, member.RevisionKey(), n.loadMembers},
	}
}

func (n *Node) loadRegistry(r machine.Reader) error {
	n.view.Load(registry.List(r))
	poke(n.published)
	return nil
}

func (n *Node) loadSecrets(r machine.Reader) error {
	n.secrets.View.Load(secret.List(r))
	return nil
}

func (n *Node) loadMembers(r machine.Reader) error {
	records, revision := member.List(r)
	n.decided(records, revision)
	return nil
}

// sink passes what the shards decide to those it concerns.
type sink struct{ n *Node }

func (s *sink) Lead(id shard.ID, term uint64, effects []machine.Effect) {
	s.n.sched.Lead(id, term, effects)
}

func (s *sink) Applied(id shard.ID, term uint64, effects []machine.Effect) {
	isNew := false
	for _, e := range effects {
		switch c := e.(type) {
		case registry.Changed:
			s.n.view.Apply(c)
			poke(s.n.published)
			isNew = true
		case secret.Changed:
			s.n.secrets.View.Apply(c)
			isNew = true
		case member.Changed:
			s.n.decided(c.Records, c.Revision)
			isNew = true
		}
	}
	if isNew && term != 0 {
		poke(s.n.changed)
	}
	s.n.sched.Applied(id, term, effects)
}

func (s *sink) Installed(id shard.ID) {
	table := s.n.engine.Table()
	var errs []error
	for _, v := range s.n.views() {
		if table.Of(v.slot) == id {
			errs = append(errs, s.n.engine.Peek(v.slot, v.machine, v.load))
		}
	}
	if err := errors.Join(errs...); err != nil {
		slog.Error("what a snapshot brought cannot be read", "shard", id, "error", err)
	}
}

func (s *sink) Yield(id shard.ID) { s.n.sched.Yield(id) }
