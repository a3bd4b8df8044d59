package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// hashes are what replicas said of their states. What one says of an entry now must be what another said of it before.
type hashes struct {
	mu       sync.Mutex
	known    map[uint32]map[uint64]said
	broken   map[uint32]bool // that is said once: from there on everything differs
	order    map[uint32][]uint64
	compared int
}

type said struct {
	replica, hash uint64
	node          string
}

func newHashes() *hashes {
	return &hashes{known: map[uint32]map[uint64]said{}, broken: map[uint32]bool{}, order: map[uint32][]uint64{}}
}

// remembered is of how many entries of a shard the hashes are kept.
const remembered = 5000

// hear compares what the replicas of shards say with what is known.
func (h *hashes) hear(shards []*wattlev1.Shard) (differ []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range shards {
		before := len(differ)
		for _, p := range s.Replicas {
			if p.Applied == 0 || h.broken[s.Id] {
				continue // its node did not answer
			}
			known := h.known[s.Id]
			if known == nil {
				known = map[uint64]said{}
				h.known[s.Id] = known
			}
			was, ok := known[p.Applied]
			switch {
			case !ok:
				known[p.Applied] = said{p.Id, p.Hash, p.Node}
				h.order[s.Id] = append(h.order[s.Id], p.Applied)
				if o := h.order[s.Id]; len(o) > remembered {
					delete(known, o[0])
					h.order[s.Id] = o[1:]
				}
			case was.hash != p.Hash:
				h.broken[s.Id] = true
				differ = append(differ, fmt.Sprintf("shard %d at entry %d: %016x in replica %d at %s, %016x in replica %d at %s",
					s.Id, p.Applied, was.hash, was.replica, was.node, p.Hash, p.Id, p.Node))
			case was.replica != p.Id:
				h.compared++
			}
		}
		if s.Differs && len(differ) == before && !h.broken[s.Id] {
			h.broken[s.Id] = true
			differ = append(differ, fmt.Sprintf("shard %d, as a node says: %v", s.Id, s))
		}
	}
	return differ
}

// sample compares the replicas' hashes all the time.
func (r *run) sample(ctx context.Context) {
	for i := 0; pause(ctx, 300*time.Millisecond); i++ {
		_, _ = r.status(ctx, r.net.machines[i%len(r.net.machines)])
	}
}

// status asks a node how the cluster is, and compares what the replicas say.
func (r *run) status(ctx context.Context, m *machine) (*wattlev1.GetClusterStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	res, err := m.client.Nodes.GetClusterStatus(ctx, connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
	if err != nil {
		return nil, err
	}
	for _, d := range r.audit.hear(res.Msg.Shards) {
		r.violate("REPLICAS DIFFER: %s", d)
	}
	return res.Msg, nil
}

// whole tells what is wanting until every shard has all its replicas, as each of the nodes sees it.
func (r *run) whole() string {
	for _, m := range r.net.machines {
		s, err := r.status(r.ctx, m)
		if err != nil {
			return fmt.Sprintf("node %d: %v", m.n, err)
		}
		if int(s.Want) != len(r.net.machines) || len(s.Silent) > 0 {
			return fmt.Sprintf("node %d wants %d replicas, and does not hear of %v", m.n, s.Want, s.Silent)
		}
		for _, s := range s.Shards {
			if s.Leader == "" || s.Changing || s.Live != 3 || s.Voters != 3 || len(s.Replicas) != 3 {
				return fmt.Sprintf("node %d says of a shard: %v", m.n, s)
			}
		}
	}
	return ""
}

// equal tells what is wanting until all replicas stand at the last entry of their shards, with equal hashes.
func (r *run) equal() string {
	if w := r.whole(); w != "" {
		return w
	}
	s, err := r.status(r.ctx, r.net.machines[0])
	if err != nil {
		return err.Error()
	}
	for _, s := range s.Shards {
		for _, p := range s.Replicas {
			if p.Lag != 0 || p.Applied != s.Last || p.Hash != s.Replicas[0].Hash {
				return fmt.Sprintf("shard %d: %v", s.Id, s.Replicas)
			}
		}
	}
	return ""
}

// drain waits until all jobs are over, every shard has its replicas, and all of them are equal.
func (r *run) drain() {
	end := time.Now().Add(drainTime)
	jobs, _, _ := r.book.all()
	rng := rand.New(rand.NewPCG(1, 4))
	var open []string
	for {
		open = nil
		for _, j := range jobs {
			if !j.isOver() {
				if err := r.look(r.ctx, r.one(rng), j); err != nil || !j.isOver() {
					open = append(open, fmt.Sprintf("%s (%s, %s, %v)", j.key, j.id, j.kind, err))
				}
			}
		}
		if len(open) == 0 || time.Now().After(end) || !pause(r.ctx, 200*time.Millisecond) {
			break
		}
	}
	if len(open) > 0 {
		r.violate("%d of %d jobs are not over %s after the last fault: %s", len(open), len(jobs), drainTime, strings.Join(open[:min(len(open), 10)], ", "))
	}
	r.logf("all jobs are over")
	if !r.until(time.Until(end), r.equal) {
		r.violate("the replicas are not equal %s after the last fault: %s", drainTime, r.equal())
	}
	r.logf("all replicas are equal")
}

// compare looks whether everything that was acknowledged is there.
func (r *run) compare() {
	jobs, versions, aliases := r.book.all()
	queue := make(chan *job)
	var wg sync.WaitGroup
	for i := range 4 {
		rng := rand.New(rand.NewPCG(uint64(i), 5))
		wg.Go(func() {
			for j := range queue {
				r.compareJob(rng, j)
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wg.Wait()
	for _, m := range r.net.machines {
		for number, stamp := range versions {
			want := stamp + "hello"
			got, err := r.invoke(m, fmt.Sprintf("stamp@%d/stamp", number))
			if err != nil || got != want {
				r.violate("version %d of stamp was acknowledged as %s; at node %d it answers %q, %v", number, stamp, m.n, got, err)
			}
		}
		r.compareAliases(m, aliases)
	}
	if err := r.ctx.Err(); err != nil {
		r.t.Error("interrupted while comparing: ", err)
	}
}

func (r *run) invoke(m *machine, ref string) (string, error) {
	ctx, cancel := context.WithTimeout(r.ctx, askTime)
	defer cancel()
	got, err := m.client.Invoke(ctx, ref, []byte("hello"))
	return string(got), err
}

func (r *run) compareJob(rng *rand.Rand, j *job) {
	m := r.one(rng)
	j.mu.Lock()
	failed, deleted, gone := j.failed, j.deleted, j.gone
	j.mu.Unlock()
	switch {
	case failed: // that is said already
	case gone:
		if _, err := m.client.Jobs.GetJob(r.ctx, connect.NewRequest(&wattlev1.GetJobRequest{Id: j.id})); !client.IsNotFound(err) {
			r.violate("%s, %s, was deleted, and is there again: %v", j.key, j.id, err)
		}
	case deleted: // nobody knows
	default:
		r.resubmit(r.ctx, rng, j)
		if err := r.look(r.ctx, m, j); err != nil {
			r.violate("%s, %s, cannot be asked for: %v", j.key, j.id, err)
		}
		if err := r.check(r.ctx, m, j); err != nil {
			r.violate("the result of %s, %s, cannot be read at node %d: %v", j.key, j.id, m.n, err)
		}
	}
}

// compareAliases looks where aliases point. A move without an answer may have come about.
func (r *run) compareAliases(m *machine, aliases []*alias) {
	ctx, cancel := context.WithTimeout(r.ctx, askTime)
	defer cancel()
	res, err := m.client.Registry.GetService(ctx, connect.NewRequest(&wattlev1.GetServiceRequest{Name: "stamp"}))
	if err != nil {
		if len(aliases) > 1 || aliases[0].told != 0 {
			r.violate("the aliases cannot be read at node %d: %v", m.n, err)
		}
		return
	}
	for _, a := range aliases {
		if at := res.Msg.Service.Aliases[a.name]; at != a.told && (at != a.maybe || a.maybe == 0) {
			r.violate("%s was moved to version %d, and perhaps to %d; at node %d it is %d", a.name, a.told, a.maybe, m.n, at)
		}
	}
}
