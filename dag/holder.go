package dag

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"
)

// Holder is what a node has in hand: the attempts that run here and those that wait for a slot, whoever leads their shards. It
// knows whom to tell of them, when, and how much more the node would take. It is the other side of a Dispatcher.
//
// It is a plain value without clock or lock, as a Dispatcher is.
type Holder struct {
	cfg     HolderConfig
	held    map[AttemptID]*holding
	waiting []AttemptID
	begun   int
	solo    bool // what runs, runs alone
	dropped []AttemptID
	pace    pace // of what others gave
	leads   map[uint32]leader
	peers   map[string]*peer
}

// HolderConfig is what a Holder has to know.
type HolderConfig struct {
	ShardOf func(JobID) uint32
	// Slots is how many attempts run at once.
	Slots int
	// Session is drawn at each start of the process.
	Session uint64
	// Pools are the worker pools the node belongs to.
	Pools []string
}

type holding struct {
	shard        uint32
	alone, begun bool
	given        bool // by another node
	stopped      bool // it counts no more, and is about to end
}

type leader struct {
	node string
	term uint64
}

// peer is another node as one that leads.
type peer struct {
	asked    bool // for work
	searched bool // whether it leads what is adrift here
	wanted   int  // as it was told last
	seq      uint64
	told     time.Time // when it was told something last
	probes   [8]probe  // in turn
	probed   int
	valid    time.Time // until when what it gave is leased
	returned []AttemptID
	answers  []Led
	due      bool
}

// probe is a report that asks for a reply.
type probe struct {
	seq  uint64
	sent time.Time
	took time.Duration // zero as long as there is no reply
}

// BeatTime is the time between two reports to a leader of whose shards something is held.
const BeatTime = time.Second

// Between two reports to a node that say nothing but how much is wanted there is at least a part of the time that a task takes: what is
// held ahead lasts for longer.
const (
	leastPace, mostPace = time.Millisecond, 5 * time.Millisecond
	paced               = 4 // a fourth
)

// probeTime is the least time between two of them that ask for a reply.
const probeTime = BeatTime / 10

// NewHolder returns a Holder of nothing.
func NewHolder(cfg HolderConfig) *Holder {
	return &Holder{cfg: cfg, held: map[AttemptID]*holding{}, leads: map[uint32]leader{}, peers: map[string]*peer{}}
}

func (h *Holder) peer(node string) *peer {
	p := h.peers[node]
	if p == nil {
		p = &peer{}
		h.peers[node] = p
	}
	return p
}

// Hand takes an attempt of this node's own.
func (h *Holder) Hand(p Pick) { h.add(p, false) }

// Given takes an attempt that another node gave, unless it leads no more as far as is known here.
func (h *Holder) Given(from string, term uint64, p Pick) bool {
	shard := h.cfg.ShardOf(p.Task.Job)
	if l := h.leads[shard]; term < l.term || h.held[p.ID()] != nil {
		return false
	}
	h.leads[shard] = leader{from, term}
	h.add(p, true)
	return true
}

func (h *Holder) add(p Pick, given bool) {
	h.held[p.ID()] = &holding{shard: h.cfg.ShardOf(p.Task.Job), alone: p.Alone, given: given}
	h.waiting = append(h.waiting, p.ID())
}

// Next returns the attempt that begins now, if there is one: the caller has a slot free. One that is to run alone waits for
// everything else to end, and everything else for it.
func (h *Holder) Next() (AttemptID, bool) {
	if h.solo || len(h.waiting) == 0 {
		return AttemptID{}, false
	}
	id := h.waiting[0]
	x := h.held[id]
	if x.alone && h.begun > 0 {
		return AttemptID{}, false
	}
	h.waiting = h.waiting[1:]
	x.begun, h.solo = true, x.alone
	h.begun++
	return id, true
}

// Waits tells whether something waits for a slot.
func (h *Holder) Waits() bool { return len(h.waiting) > 0 }

// Full tells whether nothing new may be handed out here now, although a slot is free: something is to run alone.
func (h *Holder) Full() bool {
	return h.solo || slices.ContainsFunc(h.waiting, func(id AttemptID) bool { return h.held[id].alone })
}

// Free returns how many slots nothing runs or waits for.
func (h *Holder) Free() int { return max(0, h.cfg.Slots-len(h.held)) }

// Done says that an attempt that began is over.
func (h *Holder) Done(id AttemptID, took time.Duration) {
	x := h.held[id]
	if x == nil || !x.begun {
		return
	}
	if x.given && took > 0 {
		h.pace.ended(took)
	}
	delete(h.held, id)
	h.begun--
	h.solo = h.solo && !x.alone
}

// Drop forgets an attempt that counts no more, and tells whether it has begun: then it is to be stopped.
func (h *Holder) Drop(id AttemptID) (begun bool) {
	x := h.held[id]
	if x == nil {
		return false
	}
	if !x.begun {
		delete(h.held, id)
		h.waiting = slices.DeleteFunc(h.waiting, func(w AttemptID) bool { return w == id })
	}
	x.stopped = true
	h.dropped = append(h.dropped, id)
	return x.begun
}

// Dropped returns the attempts of which nothing will come, each once: to this node's own Dispatcher they are done, if it handed them out.
func (h *Holder) Dropped() []AttemptID {
	ids := h.dropped
	h.dropped = nil
	return ids
}

// Of returns what other nodes gave of a shard. It is led here now, so nobody else is to be told of it.
func (h *Holder) Of(shard uint32, term uint64) (ids []AttemptID) {
	h.leads[shard] = leader{"", term}
	for id, x := range h.held {
		if x.given && !x.stopped && x.shard == shard {
			x.given = false
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareAttempts)
	return ids
}

// Yield says that a shard is not led here any more. What runs goes on, and its next leader is told of it when it asks.
func (h *Holder) Yield(shard uint32) {
	h.leads[shard] = leader{"", h.leads[shard].term}
	for _, x := range h.held {
		x.given = x.given || x.shard == shard
	}
}

// Reply takes what a leader said, and returns the attempts that are to stop.
func (h *Holder) Reply(now time.Time, from string, r Reply) (stop []AttemptID) {
	p := h.peer(from)
	for i := range p.probes {
		if x := &p.probes[i]; r.Seq > 0 && x.seq == r.Seq {
			x.took = max(now.Sub(x.sent), 1)
			if until := x.sent.Add(LeaseTime); until.After(p.valid) {
				p.valid = until
			}
		}
	}
	for _, shard := range r.Elsewhere {
		if l := h.leads[shard]; l.node == from {
			h.leads[shard] = leader{"", l.term}
		}
	}
	for _, id := range r.Stale {
		if x := h.held[id]; x != nil && x.given && !x.stopped && h.Drop(id) {
			stop = append(stop, id)
		}
	}
	for _, id := range r.Recalled {
		if x := h.held[id]; x != nil && !x.begun {
			h.Drop(id)
			p.returned, p.due = append(p.returned, id), true
		}
	}
	for _, l := range r.Leads {
		if l.Term >= h.leads[l.Shard].term {
			h.leads[l.Shard] = leader{from, l.Term}
			p.answers, p.due = append(p.answers, l), true
		}
	}
	return stop
}

// Return gives everything back that has not begun: this node ends. It returns what is this node's own, to be released.
func (h *Holder) Return() (own []AttemptID) {
	for _, id := range h.waiting {
		if node := h.leads[h.held[id].shard].node; h.held[id].given && node != "" {
			p := h.peer(node)
			p.returned, p.due = append(p.returned, id), true
		} else {
			own = append(own, id)
		}
		delete(h.held, id)
		h.dropped = append(h.dropped, id)
	}
	h.waiting = nil
	return own
}

// rtt is the shortest of the last round trips, since the others waited for something, and the longest. They are zero if there was none.
func (p *peer) rtt() (least, most time.Duration) {
	for _, x := range p.probes {
		if most = max(most, x.took); x.took > 0 && (least == 0 || x.took < least) {
			least = x.took
		}
	}
	return least, most
}

// pacing is the time between two reports that say nothing but how much is wanted.
func (h *Holder) pacing() time.Duration { return min(max(h.pace.mean/paced, leastPace), mostPace) }

// Want returns how much more this node would take of others: as much as it has slots free for, and what would begin while it asks
// for more, a tenth more at least.
func (h *Holder) Want() int {
	if h.Full() {
		return 0
	}
	ahead := 0
	if h.pace.mean > 0 {
		rtt := time.Duration(0)
		for _, p := range h.peers {
			if p.asked {
				_, most := p.rtt() // as slow as it can be
				rtt = max(rtt, most)
			}
		}
		ahead = min(h.cfg.Slots, max((h.cfg.Slots+9)/10, int(math.Ceil(2*float64(h.cfg.Slots)*float64(rtt+h.pacing()-leastPace)/float64(h.pace.mean)))))
	}
	return max(0, h.cfg.Slots+ahead-len(h.held))
}

// Ask has these nodes asked for work, and no others. With none, nobody is.
func (h *Holder) Ask(nodes []string) {
	for _, n := range nodes {
		h.peer(n).asked = true
	}
	for n, p := range h.peers {
		p.asked = p.asked && slices.Contains(nodes, n)
	}
}

// Adrift returns the shards of which something is held here for a leader that is not known: this node yielded them, or their leader did,
// and the next one did not ask, or was not heard, since one of the two was paused or cut off. Those who may lead them are to be
// searched.
func (h *Holder) Adrift() (shards []uint32) {
	for _, x := range h.held {
		if x.given && !x.stopped && h.leads[x.shard].node == "" && !slices.Contains(shards, x.shard) {
			shards = append(shards, x.shard)
		}
	}
	slices.Sort(shards)
	return shards
}

// Search has these nodes asked whether they lead what is adrift, and no others.
func (h *Holder) Search(nodes []string) {
	for _, n := range nodes {
		h.peer(n).searched = true
	}
	for n, p := range h.peers {
		p.searched = p.searched && slices.Contains(nodes, n)
	}
}

// tells returns the leader that is told of it, if there is one.
func (h *Holder) tells(x *holding) string {
	if !x.given || x.stopped {
		return ""
	}
	return h.leads[x.shard].node
}

// of is what a leader is told of, in order.
func (h *Holder) of(leader string) (all []Held) {
	for id, x := range h.held {
		if h.tells(x) == leader {
			all = append(all, Held{id, x.begun})
		}
	}
	slices.SortFunc(all, func(a, b Held) int { return compareAttempts(a.AttemptID, b.AttemptID) })
	return all
}

// Reports returns what is to be sent now, and when to ask again if nothing happens.
func (h *Holder) Reports(now time.Time) (reports map[string]Report, next time.Time) {
	concerned := map[string]bool{}
	for _, x := range h.held {
		if node := h.tells(x); node != "" && !concerned[node] {
			concerned[node] = true
			h.peer(node)
		}
	}
	want, adrift := h.Want(), h.Adrift()
	reports = map[string]Report{}
	for node, p := range h.peers {
		wants := 0
		if p.asked {
			wants = want
		}
		p.searched = p.searched && len(adrift) > 0
		wait := BeatTime
		switch {
		case p.due:
			wait = 0
		case wants != p.wanted:
			wait = h.pacing()
		case !concerned[node] && !p.asked && !p.searched:
			if now.Sub(p.told) > LeaseTime {
				delete(h.peers, node)
			}
			continue
		}
		if at := p.told.Add(wait); now.Before(at) {
			if next.IsZero() || at.Before(next) {
				next = at
			}
			continue
		}
		p.seq++
		quiet := !p.due && now.Sub(p.probes[p.probed].sent) < probeTime
		if !quiet {
			p.probed = (p.probed + 1) % len(p.probes)
			p.probes[p.probed] = probe{seq: p.seq, sent: now}
		}
		p.told, p.wanted, p.due = now, wants, false
		least, _ := p.rtt()
		reports[node] = Report{
			Session: h.cfg.Session, Seq: p.seq, Quiet: quiet, Held: h.of(node), Returned: p.returned, Want: wants,
			Taker: Taker{RTT: least, Pools: h.cfg.Pools}, Settled: p.answers,
		}
		if p.searched {
			r := reports[node]
			r.Adrift = adrift
			reports[node] = r
		}
		p.returned, p.answers = nil, nil
		if at := now.Add(BeatTime); next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return reports, next
}

// Valid tells whether an attempt counts as far as this node can know: it leads its shard, or who does said so less than a lease's time ago.
func (h *Holder) Valid(now time.Time, id AttemptID) bool {
	x := h.held[id]
	if x == nil || x.stopped {
		return false
	}
	if !x.given {
		return true
	}
	p := h.peers[h.leads[x.shard].node]
	return p != nil && now.Before(p.valid)
}

// Begun tells whether an attempt is here and has begun.
func (h *Holder) Begun(id AttemptID) bool {
	x := h.held[id]
	return x != nil && x.begun
}

// Held returns everything, in order.
func (h *Holder) Held() []AttemptID {
	return slices.SortedFunc(maps.Keys(h.held), compareAttempts)
}

func compareAttempts(a, b AttemptID) int {
	return cmp.Or(compareTasks(a.Task, b.Task), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Attempt, b.Attempt))
}

func compareTasks(a, b TaskID) int {
	return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Index, b.Index))
}
