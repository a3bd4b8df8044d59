package dag

import (
	"cmp"
	"slices"
)

// Running is an attempt that has begun.
type Running struct {
	Stage, Task, Attempt uint32
	Node                 string
}

// Leads tells whether a job's shard is led here.
func (d *Dispatcher) Leads(id JobID) bool {
	_, led := d.terms[d.shardOf(id)]
	return led
}

// Running returns the attempts of a job that have begun and have not ended, as far as the nodes that have them said so, in order. Those
// that clients have are recorded, and not among them. Begun tells it of this node's own.
func (d *Dispatcher) Running(id JobID, begun func(AttemptID) bool) (all []Running) {
	for task, h := range d.queue.running {
		if task.Job != id {
			continue
		}
		at := d.own.Name
		switch l := d.leases[task]; {
		case l != nil && (l.tenure != nil || !l.begun), l == nil && !begun(h.ID()):
			continue
		case l != nil:
			at = l.holder
		}
		all = append(all, Running{task.Stage, task.Index, h.Attempt, at})
	}
	slices.SortFunc(all, func(a, b Running) int { return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Task, b.Task)) })
	return all
}
