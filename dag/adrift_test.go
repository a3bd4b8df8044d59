package dag

import (
	"slices"
	"testing"
	"time"

	"github.com/wattlehq/wattle/internal/machine"
)

// A node may hear nothing of it that the shard of what it runs is led by another one now: it was paused meanwhile. What the old leader
// answers is no lease then, and the node looks for the new one.
func TestAdrift(t *testing.T) {
	t.Parallel()
	for name, replaced := range map[string]bool{"replaced": true, "waited for": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now, id := epoch, AttemptID{TaskID{"a", 0, 0}, 0, 1}
			leaders := map[string]*Dispatcher{"x": NewDispatcher(oneShard, "x", nil), "y": NewDispatcher(oneShard, "y", nil)}
			h := NewHolder(HolderConfig{ShardOf: oneShard, Slots: 1, Session: 1})
			exchange := func() (stop []AttemptID) {
				now = now.Add(BeatTime)
				reports, _ := h.Reports(now)
				for to, r := range reports {
					leaders[to].Report(now, "h", r)
					if reply, ok := leaders[to].Replies()["h"]; ok {
						stop = append(stop, h.Reply(now, to, reply)...)
					}
				}
				return stop
			}
			run := []machine.Effect{Run{Task: id.Task, Count: 1, Attempt: 1, Term: 1}}
			leaders["x"].Lead(now, 0, 1, run, nil, nil)
			h.Ask([]string{"x"})
			exchange()
			leaders["x"].Grants(now, 0)
			now = now.Add(time.Second) // whatever is waited for so long is worth the way
			grants := leaders["x"].Grants(now, 0)
			if len(grants) != 1 || !leaders["x"].Granted(now, "h", grants[0].Pick) || !h.Given("x", 1, grants[0].Pick) {
				t.Fatal(grants)
			}
			h.Ask(nil)
			if _, ok := h.Next(); !ok {
				t.Fatal("it does not begin")
			}
			if exchange(); !h.Valid(now, id) {
				t.Fatal("it does not count")
			}
			leaders["x"].Yield(0)
			leaders["y"].Lead(now, 0, 2, run, nil, nil)
			if replaced {
				p, start, ok := leaders["y"].Next(now)
				if !ok || start == nil {
					t.Fatal(p, start, ok)
				}
				leaders["y"].Started(p, 2)
			}
			if exchange(); h.Valid(now, id) || !slices.Equal(h.Adrift(), []uint32{0}) {
				t.Fatalf("it counts although x leads no more; adrift are %v", h.Adrift())
			}
			h.Search([]string{"x", "y"})
			stop := exchange()
			stop = append(stop, exchange()...)
			if replaced != slices.Contains(stop, id) || h.Valid(now, id) == replaced {
				t.Errorf("stopped are %v, it counts: %v", stop, h.Valid(now, id))
			}
			if len(h.Adrift()) != 0 {
				t.Error("it is still looked for")
			}
			for range 3 {
				exchange() // whether it searches on or not, it comes to rest
			}
			if reports, _ := h.Reports(now.Add(BeatTime)); !replaced && len(reports) != 1 {
				t.Errorf("%v", reports)
			}
		})
	}
}
