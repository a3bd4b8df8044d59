package dag

import "time"

// leastWorth is how long a task has to take to be worth the work of giving it to another node, however near that is.
const leastWorth = time.Millisecond

// pace is how long the tasks of a stage take.
type pace struct {
	began time.Time     // when somebody first asked for one
	own   time.Time     // when this node last began one
	mean  time.Duration // of those that ended, the later ones counting more; zero if none has
	count int           // of those that ended, up to the first few
}

// The first ones also take what is needed once: the quickest tells the most of those that follow.
const firstFew = 8

func (p *pace) ended(took time.Duration) {
	took = max(took, 1)
	switch {
	case p.count == 0:
		p.mean = took
	case p.count < firstFew:
		p.mean = min(p.mean, took)
	default:
		p.mean += (took - p.mean) / 8
		return
	}
	p.count++
}

// If none has ended or begun here for so many times as long, a task takes longer, although others were short.
const (
	longAtFirst = 4
	longLater   = 16
)

// exceeds tells whether a task takes longer than that, as far as is known, or when that may be known.
func (p *pace) exceeds(d time.Duration, now time.Time) (yes bool, when time.Time) {
	if p.mean > d {
		return true, time.Time{}
	}
	since := p.began
	if p.own.After(since) {
		since = p.own
	}
	if when = since.Add(longAtFirst * d); p.mean > 0 {
		when = since.Add(longLater * d)
	}
	return !now.Before(when), when
}
