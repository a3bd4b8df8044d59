package dag

import (
	"encoding/binary"
	"maps"
	"slices"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// lose opens a finished task again because its output cannot be read any more. What reads it waits meanwhile.
func (t *transition) lose(c *storev1.Lose) *fault.Error {
	if err := t.running(); err != nil {
		return err
	}
	if int(c.Stage) >= len(t.plan.Stages) || c.Task >= t.plan.Stages[c.Stage].Tasks {
		return errUnknownTask(TaskID{t.id, c.Stage, c.Task})
	}
	r := readTask(t.tx, t.id, c.Stage, c.Task, 0)
	if r.State != wattlev1.TaskState_TASK_STATE_COMPLETED || r.Generation != c.Generation {
		return nil // somebody else found out first
	}
	t.reopen(c.Stage, c.Task, r, r.Output.GetBytes().GetDigest())
	if c.Node != "" {
		t.loseAll(c.Stage, c.Node)
	}
	t.resumeStage(c.Stage)
	return nil
}

// loseAll makes everything of a stage again that a node had. Whoever comes across one of them would come across the next.
func (t *transition) loseAll(stage uint32, node string) {
	lost := map[uint32]*storev1.TaskRecord{}
	for k, v := range t.tx.Scan(taskKey(t.id, stage, 0), stageEnd(t.id, stage)) {
		r := decode(v, &storev1.TaskRecord{})
		if r.State == wattlev1.TaskState_TASK_STATE_COMPLETED && r.Output.GetNode() == node && r.Output.GetBytes().GetDigest() != "" {
			lost[binary.BigEndian.Uint32(k[len(k)-4:])] = r
		}
	}
	for _, task := range slices.Sorted(maps.Keys(lost)) {
		t.reopen(stage, task, lost[task], lost[task].Output.Bytes.Digest)
	}
}

// reopen makes a finished task unfinished, in its next generation.
func (t *transition) reopen(stage, task uint32, r *storev1.TaskRecord, replaces string) {
	st := t.stage(stage)
	st.Completed--
	st.OutputBytes -= r.Output.GetBytes().GetSize()
	t.setTask(stage, task, &storev1.TaskRecord{
		State: wattlev1.TaskState_TASK_STATE_RETRYABLE, Generation: r.Generation + 1, Attempt: 1, Term: t.cmd.Term,
		Replaces: replaces, Errors: r.Errors,
	})
	if st.State == wattlev1.StageState_STAGE_STATE_COMPLETED {
		st.State = wattlev1.StageState_STAGE_STATE_PENDING
	}
	t.setStage(stage)
	for n, s := range t.plan.Stages {
		d := t.stage(uint32(n))
		if slices.Contains(s.After, stage) && d.State == wattlev1.StageState_STAGE_STATE_RUNNING {
			d.State = wattlev1.StageState_STAGE_STATE_PENDING
			t.setStage(uint32(n))
			t.effect(Hold{Job: t.id, Stage: uint32(n)})
		}
	}
}

// resumeStage lets a stage with reopened tasks run if what it needs is complete.
func (t *transition) resumeStage(n uint32) {
	st := t.stage(n)
	if st.State == wattlev1.StageState_STAGE_STATE_PENDING && t.complete(t.plan.Stages[n].After) {
		st.State = wattlev1.StageState_STAGE_STATE_RUNNING
		t.setStage(n)
	}
	t.startWaiting(n)
}

// invalidate reopens what was made from an output that has other bytes now.
func (t *transition) invalidate(stage, task uint32) {
	for n, s := range t.plan.Stages {
		reads := s.From == stage && (s.Input == storev1.InputKind_INPUT_KIND_EACH || s.Input == storev1.InputKind_INPUT_KIND_REDUCE || s.Input == storev1.InputKind_INPUT_KIND_COLLECT)
		if !reads || t.stage(uint32(n)).Term == 0 {
			continue
		}
		for i := range s.Tasks {
			if s.Input == storev1.InputKind_INPUT_KIND_EACH && i != task {
				continue
			}
			r := readTask(t.tx, t.id, uint32(n), i, t.stage(uint32(n)).Term)
			switch r.State {
			case wattlev1.TaskState_TASK_STATE_COMPLETED:
				t.reopen(uint32(n), i, r, r.Output.GetBytes().GetDigest())
			default:
				// It may be running on the old bytes: that attempt no longer counts.
				if t.letGo(uint32(n), r) {
					t.effect(Ended{AttemptID: AttemptID{TaskID{t.id, uint32(n), i}, r.Generation, r.Attempt}})
				}
				r.Attempt++
				r.Term = t.cmd.Term
				r.State = wattlev1.TaskState_TASK_STATE_RETRYABLE
				t.setTask(uint32(n), i, r)
			}
		}
	}
}
