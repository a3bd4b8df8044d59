package dag

import (
	"fmt"
	"time"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
)

// A client that has an attempt of an external stage holds it by a lease, as another node does. Two things are different. Its lease is as
// long as it asked for, and recorded, for no leader can ask around which clients there are: the next leader finds it in the state, and lets
// it begin anew. And that it is over is recorded as well, as a failure that people can see, before anybody else gets the task.

// ClientPrefix begins the names of clients where those of nodes stand, which have no slash.
const ClientPrefix = "client/"

// tenure is what is different in a client's lease.
type tenure struct {
	lease    time.Duration
	deadline time.Time // when the attempt may not go on however often it is extended; zero is never
	told     time.Time // that it is over, when
}

// begin begins the lease of a client that has had the attempt since some time.
func (l *lease) begin(now, since time.Time, timeout time.Duration) {
	l.until = now.Add(l.tenure.lease)
	if timeout > 0 {
		l.tenure.deadline = since.Add(timeout)
	}
}

func clientLease(id AttemptID, client string, length time.Duration) *lease {
	return &lease{AttemptID: id, holder: client, seen: true, begun: true, tenure: &tenure{lease: length}}
}

// tenures adopts what clients have of a shard that is led here now. Their leases begin anew: when they were extended last, only the
// leader before this one knew.
func (d *Dispatcher) tenures(now time.Time, effects []machine.Effect) {
	for _, e := range effects {
		r, ok := e.(Run)
		id := AttemptID{r.Task, r.Generation, r.Attempt}
		if !ok || r.Tenure.Client == "" || !d.queue.Adopt(id) {
			continue
		}
		l := clientLease(id, r.Tenure.Client, r.Tenure.Lease)
		l.sent = true
		l.begin(now, r.Tenure.Since, r.Timeout)
		d.leases[r.Task] = l
		d.counts.Adopted++
	}
}

// Acquire hands out attempts to a client: up to most, each with the start that is to be recorded first. Then comes Granted or Refused.
func (d *Dispatcher) Acquire(now time.Time, client string, pools []string, most int, length time.Duration) (grants []Grant) {
	for range most {
		p, start, ok := d.next(now, Taker{Pools: pools, External: true})
		if !ok {
			break
		}
		s := start
		s.Client, s.Lease = client, int64(length)
		d.leases[p.Task] = clientLease(p.ID(), client, length)
		grants = append(grants, Grant{To: client, Pick: p, Start: start})
	}
	return grants
}

// ReadyFor returns how many tasks wait for clients of some pools.
func (d *Dispatcher) ReadyFor(pools []string) int {
	return d.queue.Ready(Taker{Pools: pools, External: true})
}

func (d *Dispatcher) extended(now time.Time, e Extended) {
	if l := d.leases[e.Task]; l != nil && l.sent && l.tenure != nil && l.AttemptID == e.AttemptID {
		l.tenure.lease, l.until = e.Lease, now.Add(e.Lease)
	}
}

// End is how an attempt ended, to be recorded.
type End struct {
	AttemptID
	Finish *storev1.Finish
}

// Overdue returns how the attempts ended whose clients let their lease end or had them for too long, in order. Until that is recorded, it is
// returned again now and then.
func (d *Dispatcher) Overdue(now time.Time) (ends []End) {
	for _, l := range d.leased(func(l *lease) bool { return l.tenure != nil && l.sent && !now.Before(l.tenure.told.Add(LeaseTime)) }) {
		f := &storev1.Failure{}
		switch t := l.tenure; {
		case !now.Before(l.until):
			f.Reason, f.Message, f.Trouble = "lease_lost", fmt.Sprintf("%s was not heard of within its lease of %s", l.holder, t.lease), true
		case !t.deadline.IsZero() && !now.Before(t.deadline):
			f.Reason, f.Message, f.Retryable = "time_limit", fmt.Sprintf("%s had the task for longer than the stage's timeout", l.holder), true
		default:
			continue
		}
		l.tenure.told = now
		d.counts.Lost++
		ends = append(ends, End{l.AttemptID, &storev1.Finish{
			Stage: l.Task.Stage, Task: l.Task.Index, Generation: l.Generation, Attempt: l.Attempt, External: true, Outcome: &storev1.Finish_Failed{Failed: f},
		}})
	}
	return ends
}
