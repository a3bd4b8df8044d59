package dag

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A node gets first the tasks whose inputs it has, then those whose inputs are nowhere in particular, then those of others, so that
// none waits.
func TestNear(t *testing.T) {
	t.Parallel()
	q := NewQueue()
	q.Add(Run{Task: TaskID{"a", 0, 0}, Count: 8, Attempt: 1})
	for i, node := range []string{"x", "y", "x", "", "y", "x", "", "z"} {
		if p, ok := next(q, epoch); !ok || p.Task.Index != uint32(i) {
			t.Fatal(p, ok)
		}
		if node != "" {
			q.made(TaskID{"a", 0, uint32(i)}, node)
		}
		q.Done(TaskID{"a", 0, uint32(i)})
	}
	q.Add(Run{Task: TaskID{"a", 1, 0}, Count: 8, Attempt: 1, Each: true, From: 0})
	var got []uint32
	for _, node := range []string{"x", "y", "y", "y", "x", "y", "w", "x"} {
		p, _, ok := q.Next(epoch, Taker{Name: node})
		if !ok {
			t.Fatal("nothing")
		}
		got = append(got, p.Task.Index)
	}
	if want := []uint32{0, 1, 4, 3, 2, 6, 5, 7}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// However the tasks of a large stage are taken, each is taken once, and what is looked at stays little.
func TestNearOfMany(t *testing.T) {
	t.Parallel()
	const tasks, nodes = 20_000, 3
	q, rng := NewQueue(), rand.New(rand.NewPCG(1, 1))
	q.Add(Run{Task: TaskID{"a", 0, 0}, Count: 1, Attempt: 1})
	at := make([]string, tasks)
	for i := range at {
		at[i] = fmt.Sprint(rng.IntN(nodes))
		q.made(TaskID{"a", 0, uint32(i)}, at[i])
	}
	q.Add(Run{Task: TaskID{"a", 1, 0}, Count: tasks, Attempt: 1, Each: true, From: 0})
	taken, near := map[uint32]bool{}, 0
	for range tasks {
		node := fmt.Sprint(rng.IntN(nodes))
		p, _, ok := q.Next(epoch, Taker{Name: node})
		if !ok || taken[p.Task.Index] {
			t.Fatalf("%v after %d, %v", p, len(taken), ok)
		}
		taken[p.Task.Index] = true
		if at[p.Task.Index] == node {
			near++
		}
		if parts := len(q.jobs["a"].stages[1].runs); parts > within+1 {
			t.Fatalf("%d parts", parts)
		}
	}
	// All ask as often, in any order: nearly all find something of their own among what is looked at.
	if near < tasks*9/10 {
		t.Errorf("%d of %d tasks ran where their inputs are", near, tasks)
	}
}
