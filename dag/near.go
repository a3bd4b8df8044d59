package dag

import (
	"slices"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
)

// A task that reads one output of the stage before is best run where that output lies. Of the tasks that wait, a taker gets first
// those whose input it has, then those whose input is as far from everybody, and only then what others have: nothing waits for a
// node that is busy, and no node for a task that is near. What lies where is known to the leader that recorded it; the next one
// goes without.

// within is how many waiting tasks of a stage are looked at for one that is near. It bounds what a pick costs, and into how many
// parts a range falls.
const within = 64

// readOneByOne tells whether tasks of another stage read the outputs of a stage one by one.
func readOneByOne(plan *storev1.Plan, stage uint32) bool {
	return slices.ContainsFunc(plan.Stages, func(s *storev1.PlanStage) bool {
		return s.Input == storev1.InputKind_INPUT_KIND_EACH && s.From == stage
	})
}

// made notes which node has the output of a task.
func (q *Queue) made(id TaskID, node string) {
	j := q.jobs[id.Job]
	if j == nil || j.over {
		return
	}
	s := j.stage(id.Stage)
	if s.made == nil {
		s.made = map[uint32]string{}
	}
	s.made[id.Index] = node
}

// nearest takes out of what waits in a stage the task that a taker is to have.
func (j *jobQueue) nearest(s *stageQueue, t Taker) Run {
	best, at := uint32(0), 0
	if from := j.stages[s.from]; s.each && from != nil && len(from.made) > 0 {
		best, at = s.look(from.made, t)
	}
	return s.takeOut(at, best)
}

// look returns the waiting task that is nearest to a taker: the run it is in, and its place in that.
func (s *stageQueue) look(made map[uint32]string, t Taker) (place uint32, at int) {
	neutral, looked := false, 0
	for i, r := range s.runs {
		for k := uint32(0); k < r.Count; k++ {
			node, known := made[r.Task.Index+k]
			switch {
			case known && node == t.Name:
				return k, i
			case !known && !neutral:
				place, at, neutral = k, i, true
			}
			if looked++; looked == within {
				return place, at
			}
		}
	}
	return place, at
}

// takeOut takes a task out of a run that waits, which leaves those before and those after it.
func (s *stageQueue) takeOut(at int, place uint32) Run {
	r := s.runs[at]
	first, one, rest := r, r, r
	first.Count = place
	one.Task.Index, one.Count = r.Task.Index+place, 1
	rest.Task.Index, rest.Count = r.Task.Index+place+1, r.Count-place-1
	switch {
	case first.Count == 0 && rest.Count == 0:
		copy(s.runs[1:at+1], s.runs[:at]) // there may be very many after it
		s.runs = s.runs[1:]
	case first.Count == 0:
		s.runs[at] = rest
	case rest.Count == 0:
		s.runs[at] = first
	default:
		s.runs[at] = first
		s.runs = slices.Insert(s.runs, at+1, rest)
	}
	return one
}
