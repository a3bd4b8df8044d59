package dag

import (
	"cmp"
	"maps"
	"slices"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// LeaseTime is how long an attempt on another node counts that is not heard of.
const LeaseTime = 5 * time.Second

// expiry is the time between two looks for leases that are over.
const expiry = LeaseTime / 20

// unknownRTT stands for a round trip that was not measured yet.
const unknownRTT = time.Millisecond

// mostMoves is how often a task may be given to another node while nothing goes wrong.
const mostMoves = 2

// Counts count since the start.
type Counts struct {
	// Adopted are attempts that a leader before this one handed out and that went on.
	Adopted uint64
	// Returned are attempts that had not begun where they were, and came back.
	Returned uint64
	// Lost are attempts of nodes that were silent for too long, or whose process ended.
	Lost uint64
}

// lease is an attempt that another node has, or a client.
type lease struct {
	AttemptID
	holder   string
	until    time.Time
	sent     bool // it is on its way: nothing has to be recorded first any more
	gone     bool // before it was sent, its holder went
	seen     bool // the holder said that it has it
	begun    bool // as the holder said last
	recalled bool
	tenure   *tenure // of a client
}

// settling is a shard of which it is not known yet what runs where.
type settling struct {
	term  uint64
	until time.Time
	waits map[string]bool
}

// taker is another node: what it asked for, and what it is to be told.
type taker struct {
	Taker
	session uint64
	seq     uint64 // of its last report
	want    int    // as it said last
	coming  int    // what it was given and has not said that it has
	asked   uint64 // in which order they asked
	until   time.Time
	reply   Reply
	due     bool // the reply is to be sent
	ask     bool // it is to be asked what it has
}

// Held is an attempt that a node has.
type Held struct {
	AttemptID
	// Begun tells that it is not waiting for a slot any more.
	Begun bool
}

// Led is a shard, and the term in which a node leads it.
type Led struct {
	Shard uint32
	Term  uint64
}

// Report is what a node tells a leader.
type Report struct {
	// Session is drawn by each process: what one before it had is no more.
	Session uint64
	// Seq counts a node's reports to this leader.
	Seq uint64
	// Quiet ones need no reply if there is nothing to be told.
	Quiet bool
	// Held are the attempts it has of the shards that it believes to be led there.
	Held []Held
	// Returned are attempts that were recalled, or that it cannot run, and that did not begin.
	Returned []AttemptID
	// Want is how many more it would take, now or when there are some.
	Want  int
	Taker Taker
	// Settled are the shards of which Held has everything, in the terms in which it was asked.
	Settled []Led
	// Adrift are shards of which it has something and does not know who leads them.
	Adrift []uint32
}

// Reply is what a leader tells a node.
type Reply struct {
	// Seq is that of the last report heard: what was held then, and is not stale, is leased for LeaseTime from when it was sent.
	Seq uint64
	// Stale are attempts that count no more.
	Stale []AttemptID
	// Recalled are attempts to be returned if they have not begun.
	Recalled []AttemptID
	// Leads are shards led here, of which the node is to say what it has.
	Leads []Led
	// Elsewhere are shards that are not led here, although the node believed so: nothing of them is leased by this reply.
	Elsewhere []uint32
}

// Grant is an attempt given to another node. With a Start, that is to be recorded first. Then comes Granted or, if it did not come
// to that, Refused.
type Grant struct {
	To string
	Pick
	Start *storev1.Start
}

// leased returns the leases that match, in order.
func (d *Dispatcher) leased(match func(*lease) bool) (ls []*lease) {
	for _, l := range d.leases {
		if match(l) {
			ls = append(ls, l)
		}
	}
	slices.SortFunc(ls, func(a, b *lease) int { return compareTasks(a.Task, b.Task) })
	return ls
}

func (d *Dispatcher) taker(node string) *taker {
	t := d.takers[node]
	if t == nil {
		t = &taker{}
		d.takers[node] = t
	}
	return t
}

// Report takes what a node said.
func (d *Dispatcher) Report(now time.Time, from string, r Report) {
	if t := d.takers[from]; t != nil && t.session != 0 {
		switch {
		case t.session != r.Session:
			d.Gone(from)
		case r.Seq <= t.seq:
			return // a newer one overtook it
		}
	}
	t := d.taker(from)
	if r.Want > 0 && t.want == 0 {
		d.asked++
		t.asked = d.asked
	}
	t.session, t.seq, t.Taker, t.want, t.until = r.Session, r.Seq, r.Taker, r.Want, now.Add(LeaseTime)
	t.Taker.Name = from
	if t.Taker.RTT <= 0 {
		t.Taker.RTT = unknownRTT
	}
	for _, h := range r.Held {
		d.hold(now, from, t, h)
	}
	for _, id := range r.Returned {
		if l := d.leases[id.Task]; l != nil && l.AttemptID == id && l.holder == from {
			d.end(l)
			d.counts.Returned++
			d.queue.Again(id.Task, false)
		}
	}
	for _, s := range r.Adrift {
		if term, led := d.terms[s]; led {
			t.reply.Leads = append(t.reply.Leads, Led{s, term})
		}
	}
	if !r.Quiet || len(t.reply.Stale)+len(t.reply.Elsewhere)+len(t.reply.Leads) > 0 {
		t.reply.Seq, t.due = r.Seq, true // a reply without a number renews nothing, and measures nothing
	}
	for _, s := range r.Settled {
		if x := d.settling[s.Shard]; x != nil && x.term == s.Term {
			d.settled(s.Shard, from)
		}
	}
}

// hold renews the lease of an attempt, adopts it, or says that it counts no more.
func (d *Dispatcher) hold(now time.Time, from string, t *taker, h Held) {
	shard := d.shardOf(h.Task.Job)
	if _, led := d.terms[shard]; !led {
		if !slices.Contains(t.reply.Elsewhere, shard) {
			t.reply.Elsewhere = append(t.reply.Elsewhere, shard)
		}
		return
	}
	l := d.leases[h.Task]
	if l == nil && d.queue.Adopt(h.AttemptID) {
		d.counts.Adopted++
		l = &lease{AttemptID: h.AttemptID, holder: from, sent: true, seen: true}
		d.leases[h.Task] = l
	}
	if l == nil || l.AttemptID != h.AttemptID || l.holder != from {
		t.reply.Stale = append(t.reply.Stale, h.AttemptID)
		return
	}
	d.see(l)
	l.until = now.Add(LeaseTime)
	if l.begun = h.Begun; h.Begun {
		l.recalled = false
	}
}

// see says that the holder has it.
func (d *Dispatcher) see(l *lease) {
	if !l.seen {
		l.seen = true
		d.taker(l.holder).coming--
	}
}

// end ends a lease.
func (d *Dispatcher) end(l *lease) {
	d.see(l)
	delete(d.leases, l.Task)
}

func (d *Dispatcher) settled(shard uint32, node string) {
	s := d.settling[shard]
	if delete(s.waits, node); len(s.waits) == 0 {
		delete(d.settling, shard)
		d.queue.Settle(d.of(shard))
	}
}

// ended takes back the lease of an attempt whose end is recorded.
func (d *Dispatcher) ended(e Ended) {
	if e.Took > 0 {
		d.queue.Ended(e.Task, e.Took)
	}
	if e.At != "" {
		d.queue.made(e.Task, e.At)
	}
	delete(d.moves, e.Task)
	delete(d.silent, e.Task)
	if l := d.leases[e.Task]; l != nil && l.sent && l.AttemptID == e.AttemptID {
		d.end(l)
		d.queue.Done(e.Task)
	}
}

// stop ends what others have of a job.
func (d *Dispatcher) stop(job JobID) {
	for _, l := range d.leased(func(l *lease) bool { return l.Task.Job == job }) {
		d.takeBack(l)
		d.queue.Done(l.Task)
	}
	maps.DeleteFunc(d.moves, func(id TaskID, _ uint8) bool { return id.Job == job })
	maps.DeleteFunc(d.silent, func(id TaskID, _ AttemptID) bool { return id.Job == job })
}

// takeBack ends a lease, and tells its holder.
func (d *Dispatcher) takeBack(l *lease) {
	if d.end(l); l.tenure != nil {
		return // it hears of that when it says something
	}
	t := d.taker(l.holder)
	t.reply.Stale, t.due = append(t.reply.Stale, l.AttemptID), true
}

// Expire ends the leases of nodes that were silent for too long. What they had runs elsewhere, in a new attempt.
func (d *Dispatcher) Expire(now time.Time) {
	if !now.Before(d.again) {
		d.again = time.Time{}
	}
	if now.Before(d.check) {
		return
	}
	d.check = now.Add(expiry)
	for _, l := range d.leased(func(l *lease) bool { return l.tenure == nil && l.sent && !now.Before(l.until) }) {
		d.lost(l)
		d.silent[l.Task] = l.AttemptID
	}
	for shard, s := range d.settling {
		if !now.Before(s.until) {
			clear(s.waits)
			d.settled(shard, "")
		}
	}
	for node, t := range d.takers {
		if !now.Before(t.until) && !t.ask && !t.due {
			delete(d.takers, node)
		}
	}
}

func (d *Dispatcher) lost(l *lease) {
	if !l.sent {
		l.gone = true
		return
	}
	d.end(l)
	d.counts.Lost++
	delete(d.moves, l.Task)
	d.queue.Again(l.Task, true)
}

// Gone says that a node's process is no more: nothing of what it had goes on.
func (d *Dispatcher) Gone(node string) {
	for _, l := range d.leased(func(l *lease) bool { return l.holder == node }) {
		d.lost(l)
	}
	delete(d.takers, node)
	for shard, s := range d.settling {
		if s.waits[node] {
			delete(d.unsure, shard)
			d.settled(shard, node)
		}
	}
}

// wants returns how much more it would take.
func (t *taker) wants() int { return max(0, t.want-t.coming) }

// asking returns the nodes that wait for something to run, those first that wait the longest.
func (d *Dispatcher) asking() []string {
	var all []string
	for node, t := range d.takers {
		if t.wants() > 0 {
			all = append(all, node)
		}
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Compare(d.takers[a].asked, d.takers[b].asked) })
	return all
}

// Grants hands out what other nodes asked for, of what is more than this node has free slots for and may run: to each at most
// half, so that there is something for the next.
func (d *Dispatcher) Grants(now time.Time, free int) (grants []Grant) {
	for _, node := range d.asking() {
		t := d.takers[node]
		kept := min(free, d.queue.ReadyToBoth(t.Taker, d.own))
		for n := min(t.wants(), (d.queue.Ready(t.Taker)-kept+1)/2); n > 0; n-- {
			p, start, ok := d.next(now, t.Taker)
			if !ok {
				break
			}
			d.leases[p.Task] = &lease{AttemptID: p.ID(), holder: node}
			t.coming++
			grants = append(grants, Grant{To: node, Pick: p, Start: start})
		}
	}
	return grants
}

// Granted says that an attempt is on its way to a node, as what its start was recorded as. It tells whether it still is to go.
func (d *Dispatcher) Granted(now time.Time, to string, p Pick) bool {
	l := d.leases[p.Task]
	switch {
	case l == nil || l.holder != to || l.sent:
		return false // its job is over, or its shard led elsewhere
	case l.gone:
		d.end(l)
		d.queue.Again(p.Task, false)
		return false
	}
	l.AttemptID, l.sent = p.ID(), true
	if l.tenure != nil {
		l.begin(now, now, d.queue.running[p.Task].run.Timeout)
		return true
	}
	d.moves[p.Task]++
	l.until = now.Add(LeaseTime)
	return true
}

// Recall asks for attempts back that have not begun where they are, if there are slots free here or elsewhere and nothing is
// ready.
func (d *Dispatcher) Recall(free int) {
	idle := free
	for _, t := range d.takers {
		idle += t.wants()
		if d.queue.Ready(t.Taker) > 0 {
			return
		}
	}
	if idle == 0 {
		return
	}
	waiting := map[string][]*lease{}
	for _, l := range d.leased(func(l *lease) bool { return l.seen && !l.begun && !l.recalled && d.moves[l.Task] < mostMoves }) {
		if free > 0 && d.queue.takes(d.own, l.Task) || d.wanted(l) {
			waiting[l.holder] = append(waiting[l.holder], l)
		}
	}
	for _, node := range slices.Sorted(maps.Keys(waiting)) {
		t, ls := d.takers[node], waiting[node]
		if t == nil || t.wants() > 0 {
			continue // what it has, it is about to begin
		}
		slices.Reverse(ls) // the last ones it was given wait the longest
		for _, l := range ls[:min(idle, len(ls))] {
			l.recalled = true
			t.reply.Recalled, t.due = append(t.reply.Recalled, l.AttemptID), true
			idle--
		}
	}
}

// wanted tells whether another node than the one that has an attempt has a slot free for it.
func (d *Dispatcher) wanted(l *lease) bool {
	for node, t := range d.takers {
		if node != l.holder && t.wants() > 0 && d.queue.takes(t.Taker, l.Task) {
			return true
		}
	}
	return false
}

// Replies returns what other nodes are to be told now.
func (d *Dispatcher) Replies() map[string]Reply {
	all := map[string]Reply{}
	for node, t := range d.takers {
		if t.ask {
			for shard, s := range d.settling {
				if s.waits[node] {
					t.reply.Leads = append(t.reply.Leads, Led{shard, s.term})
				}
			}
			slices.SortFunc(t.reply.Leads, func(a, b Led) int { return cmp.Compare(a.Shard, b.Shard) })
		}
		if t.due || len(t.reply.Leads) > 0 {
			all[node] = t.reply
		}
		t.reply, t.due, t.ask = Reply{}, false, false
	}
	return all
}

// AskAgain has the nodes asked once more that have not said what they have.
func (d *Dispatcher) AskAgain() {
	for _, s := range d.settling {
		for node := range s.waits {
			d.taker(node).ask = true
		}
	}
}
