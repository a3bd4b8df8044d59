package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store"
)

// openData opens what is durable. If that is damaged, and the other nodes of the cluster have all of it, it is put aside, and this node joins
// them as a new one.
func (n *Node) openData(ctx context.Context) error {
	err := n.openStore(ctx)
	if fault.KindOf(err) != fault.Corrupt {
		return err
	}
	if n.store != nil {
		_ = n.store.Close()
		n.store = nil
	}
	if q := n.quarantine(ctx, err); q != nil {
		return q
	}
	return n.openStore(ctx)
}

func (n *Node) openStore(ctx context.Context) (err error) {
	if b, err := store.ReadFile(n.cfg.FS, n.damagedFile()); err == nil {
		return fault.New(fault.Corrupt, "damaged_store", "damage was found while the node ran: %s", strings.TrimSpace(string(b))).
			Hint("check the disk, then restore the data directory from a copy and remove %s", n.damagedFile())
	}
	if n.store, err = store.Open(store.Options{FS: n.cfg.FS, Dir: n.cfg.Data, Fatal: n.fatal}); err != nil {
		return err
	}
	table, err := n.settle(ctx)
	if err != nil {
		return err
	}
	n.engine, err = shard.New(shard.Config{
		Store: n.store, Table: table, Node: shard.NodeID(n.identity.NodeId), Sink: &sink{n}, TrimEntries: n.cfg.TrimEntries,
		Machines: machines, Send: func(to shard.NodeID, ms []*peerv1.ShardMessage) { n.link.Send(to, ms) },
	})
	return err
}

func (n *Node) damagedFile() string { return n.cfg.FS.PathJoin(n.cfg.Data, "DAMAGED") }

// fatal ends the process. That it was damage is written down: the next start may not come across it.
func (n *Node) fatal(err error) {
	if fault.KindOf(err) == fault.Corrupt {
		// Several may come across it at once.
		n.damaged.Do(func() {
			if err := store.WritePrivate(n.cfg.FS, n.damagedFile(), err.Error()+"\n"); err != nil {
				slog.Error("damage not written down", "error", err.Error())
			}
		})
	}
	if known, merr := n.met(); merr == nil && len(known.apis) > 0 && fault.KindOf(err) == fault.Corrupt {
		err = fault.New(fault.Corrupt, "damaged_store", "%w", err).
			Hint("start it again: if the other nodes of its cluster have everything, it takes it from them; and check the disk")
	}
	if n.cfg.Fatal != nil {
		n.cfg.Fatal(err)
	}
	store.Exit(err)
}

func (n *Node) joiningFile() string { return n.cfg.FS.PathJoin(n.cfg.Data, "joining") }

// begunToJoin tells how this node was told to join a cluster, if it has not yet. It must not found one of its own then: a start
// that was interrupted does not change what its operator meant.
func (n *Node) begunToJoin() (string, error) {
	b, err := store.ReadFile(n.cfg.FS, n.joiningFile())
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// joinFlags are those that have a node join others.
func joinFlags(join []string, discover bool) string {
	var flags []string
	if len(join) > 0 {
		flags = append(flags, "--join="+strings.Join(join, ","))
	}
	if discover {
		flags = append(flags, "--discover")
	}
	return strings.Join(flags, " ")
}

// acquaintances are whom a node met: itself, and others by where they gossip and where their APIs are.
type acquaintances struct {
	self string
	// replaced are the nodes it was before, newest first: see quarantine.
	replaced      []string
	gossips, apis []string
}

// keptReplaced is how many of those are remembered. What an older one had is long placed elsewhere.
const keptReplaced = 3

// become says which node this is now, if it was another one.
func (a *acquaintances) become(self string) {
	if a.self != "" && a.self != self {
		a.replaced = append([]string{a.self}, a.replaced...)
		a.replaced = a.replaced[:min(keptReplaced, len(a.replaced))]
	}
	a.self = self
}

func (a acquaintances) String() string {
	var b strings.Builder
	fmt.Fprintln(&b, strings.Join(append([]string{a.self}, a.replaced...), " "))
	for i := range a.gossips {
		fmt.Fprintln(&b, a.gossips[i], a.apis[i])
	}
	return b.String()
}

// met reads them; without the file there are none.
func (n *Node) met() (a acquaintances, err error) {
	b, err := store.ReadFile(n.cfg.FS, n.membersFile())
	if errors.Is(err, os.ErrNotExist) {
		return a, nil
	}
	for i, line := range slices.Collect(strings.Lines(string(b))) {
		f := strings.Fields(line)
		switch {
		case i == 0 && len(f) > 0:
			a.self, a.replaced = f[0], f[1:]
		case i > 0 && len(f) == 2:
			a.gossips, a.apis = append(a.gossips, f[0]), append(a.apis, f[1])
		}
	}
	return a, err
}

// quarantine puts damaged databases aside, if nothing is lost with them.
func (n *Node) quarantine(ctx context.Context, damage error) error {
	known, err := n.met()
	if err != nil || len(known.apis) == 0 || known.self == "" {
		return damage // a cluster of one has nobody to ask
	}
	status, err := n.clients.Survey(ctx, known.apis)
	if err != nil {
		return fault.New(fault.Corrupt, "damaged_store", "%v; the other nodes of its cluster may have everything, but do not answer: %v", damage, err).
			Hint("start them first, then this one again")
	}
	for _, s := range status.Shards {
		if lacks := missed(s, known.self); lacks != "" {
			return fault.New(fault.Corrupt, "damaged_store", "%v; it cannot be made again from the other nodes: shard %d %s", damage, s.Id, lacks).
				Hint("bring the other nodes back first, or restore the data directory from a copy")
		}
	}
	aside := n.cfg.FS.PathJoin(n.cfg.Data, fmt.Sprintf("damaged-%d", time.Now().Unix()))
	if err := n.cfg.FS.MkdirAll(aside, 0o755); err != nil {
		return err
	}
	// The format last: until it is gone the directory counts as damaged. Whom the node met stays, so that it joins them even if it
	// is killed before it has.
	for _, name := range []string{"log", "state", "WAL", "DAMAGED", "FORMAT"} {
		err := n.cfg.FS.Rename(n.cfg.FS.PathJoin(n.cfg.Data, name), n.cfg.FS.PathJoin(aside, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	slog.Warn("the data is damaged and was put aside; this node joins its cluster anew", "damage", damage, "aside", aside)
	return nil
}

// behind is how many entries a replica may lack that counts: they are on their way to it.
const behind = 100

// missed says what a shard would lack without the replica on a node; nothing is well.
func missed(s *wattlev1.Shard, node string) string {
	if s.Leader == "" {
		return "has no leader"
	}
	var voters, there int
	for _, r := range s.Replicas {
		if !r.Voter {
			continue
		}
		// A new leader takes everybody for alive until it knows better; what it knows to be on their disks it was told by them.
		if voters++; r.Node != node && r.Active && r.Lag <= behind {
			there++
		}
	}
	if 2*there <= voters {
		return fmt.Sprintf("has %d of %d voters elsewhere", there, voters)
	}
	return ""
}
