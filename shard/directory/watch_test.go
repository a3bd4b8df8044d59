package directory

import (
	"testing"
	"time"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
)

var whole = Leaders{0: led(true, true, true), 1: led(true, true, true)}

func led(voters ...bool) Leader {
	l := Leader{Node: "a", ReplicaStatus: &peerv1.ReplicaStatus{Leading: true}}
	for i, active := range voters {
		l.Members = append(l.Members, &peerv1.MemberStatus{Replica: uint64(i) + 1, Voter: true, Active: active})
	}
	return l
}

// watched is a Watch that looked once a second from a time on, before it the other times.
type watched struct {
	Watch
	t   *testing.T
	now time.Time
}

func (w *watched) looks(seconds int, leaders Leaders) {
	for range seconds {
		w.Look(w.now, leaders, 2, 3)
		w.now = w.now.Add(time.Second)
	}
}

// says checks what is known of shard 1, which lacks something since so many seconds.
func (w *watched) says(when string, seconds int, atLeast bool) {
	w.t.Helper()
	all := w.All()
	if seconds < 0 {
		if len(all) > 0 {
			w.t.Errorf("%s: %v, want nothing", when, all)
		}
		return
	}
	if len(all) != 1 || all[0].Shard != 1 || w.now.Sub(all[0].Since.AsTime()) != time.Duration(seconds)*time.Second || all[0].AtLeast != atLeast {
		w.t.Errorf("%s: %v at %v, want since %d s, at least: %v", when, all, w.now, seconds, atLeast)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	w := &watched{t: t, now: time.Unix(1000, 0)}
	two := Leaders{0: whole[0], 1: led(true, true, false)}
	none := Leaders{0: whole[0]}
	small := Leaders{0: whole[0], 1: led(true, true)}
	w.looks(20, whole)
	w.says("whole", -1, false)
	w.looks(30, two)
	w.says("one is silent", 30, false)
	w.looks(2, none)
	w.looks(2, whole) // as a new leader sees it
	w.looks(10, two)
	w.says("another leader", 44, false)
	w.looks(4, whole)
	w.says("just whole", 48, false)
	w.looks(2, whole)
	w.says("whole for long", -1, false)
	w.looks(3, small)
	w.says("smaller than it should be", 3, false)
	w.Forget()
	w.says("forgotten", -1, false)
	w.looks(4, whole) // may be no more than what new leaders see
	w.looks(7, two)
	w.says("begun anew", 7, true)
	w.now = w.now.Add(time.Minute)
	w.looks(3, two)
	w.says("asleep for a minute", 3, true)
	w.now = w.now.Add(-time.Hour)
	w.looks(3, two)
	w.says("the clock was set back", 3, true)
}

func TestLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		leader             bool
		live, voters, want uint32
		lacks              bool
	}{
		{true, 3, 3, 3, false},
		{true, 1, 1, 1, false},
		{false, 0, 0, 3, true},
		{true, 2, 3, 3, true},
		{true, 2, 2, 3, true},
		{true, 2, 3, 2, true}, // two of three nodes are left: the third voter is missed all the same
		{true, 4, 4, 3, false},
	} {
		if got := Lacks(c.leader, c.live, c.voters, c.want); got != c.lacks {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
