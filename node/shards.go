package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/secret"
	"github.com/wattlehq/wattle/shard"
)

// handOverTime is how long a node that stops waits for others to lead in its place.
const handOverTime = 2 * time.Second

// startPatience is how long a start waits for others, without whom there is no quorum: then this node serves calls by what it knows.
const startPatience = 10 * time.Second

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

// catchUp loads what is kept in memory of the registry and the secrets: as they are, or, if nobody can tell, as this node knew them last.
func (n *Node) catchUp(ctx context.Context) error {
	for _, l := range []struct {
		slot    machine.Slot
		machine machine.ID
		load    func(machine.Reader) error
	}{{registry.Slot, machine.Registry, n.loadRegistry}, {secret.Slot, machine.Secrets, n.loadSecrets}} {
		err := n.router.Read(ctx, l.slot, l.machine, l.load)
		if fault.KindOf(err) == fault.Unavailable {
			slog.Warn("beginning with what this node knew last", "error", err)
			err = n.engine.Peek(l.slot, l.machine, l.load)
		}
		if err != nil {
			return err
		}
	}
	close(n.caughtUp)
	<-ctx.Done()
	return nil
}

func (n *Node) loadRegistry(r machine.Reader) error {
	n.view.Load(registry.List(r))
	return nil
}

func (n *Node) loadSecrets(r machine.Reader) error {
	n.secrets.View.Load(secret.List(r))
	return nil
}

// sink passes what the shards decide to those it concerns.
type sink struct{ n *Node }

func (s *sink) Lead(id shard.ID, term uint64, effects []machine.Effect) {
	s.n.sched.Lead(id, term, effects)
}

func (s *sink) Applied(id shard.ID, term uint64, effects []machine.Effect) {
	for _, e := range effects {
		switch c := e.(type) {
		case registry.Changed:
			s.n.view.Apply(c)
		case secret.Changed:
			s.n.secrets.View.Apply(c)
		}
	}
	s.n.sched.Applied(id, term, effects)
}

func (s *sink) Installed(id shard.ID) {
	table := s.n.engine.Table()
	var errs []error
	if table.Of(registry.Slot) == id {
		errs = append(errs, s.n.engine.Peek(registry.Slot, machine.Registry, s.n.loadRegistry))
	}
	if table.Of(secret.Slot) == id {
		errs = append(errs, s.n.engine.Peek(secret.Slot, machine.Secrets, s.n.loadSecrets))
	}
	if err := errors.Join(errs...); err != nil {
		slog.Error("what a snapshot brought cannot be read", "shard", id, "error", err)
	}
}

func (s *sink) Yield(id shard.ID) { s.n.sched.Yield(id) }
