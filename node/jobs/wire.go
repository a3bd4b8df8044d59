package jobs

import (
	"slices"

	"github.com/samber/lo"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/dag"
	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
)

func attemptTo(id dag.AttemptID) *peerv1.AttemptRef {
	return &peerv1.AttemptRef{Job: string(id.Task.Job), Stage: id.Task.Stage, Task: id.Task.Index, Generation: id.Generation, Attempt: id.Attempt}
}

func attemptFrom(r *peerv1.AttemptRef) dag.AttemptID {
	return dag.AttemptID{Task: dag.TaskID{Job: dag.JobID(r.GetJob()), Stage: r.GetStage(), Index: r.GetTask()}, Generation: r.GetGeneration(), Attempt: r.GetAttempt()}
}

func reportTo(r dag.Report) *peerv1.WorkReport {
	m := &peerv1.WorkReport{Session: r.Session, Seq: r.Seq, Quiet: r.Quiet, Want: uint32(r.Want), Rtt: durationpb.New(r.Taker.RTT), Pools: r.Taker.Pools}
	for _, h := range r.Held {
		m.Held = append(m.Held, &peerv1.HeldAttempt{Attempt: attemptTo(h.AttemptID), Begun: h.Begun})
	}
	m.Returned, m.Settled, m.Adrift = each(r.Returned, attemptTo), each(r.Settled, ledTo), r.Adrift
	return m
}

func reportFrom(m *peerv1.WorkReport) dag.Report {
	r := dag.Report{
		Session: m.Session, Seq: m.Seq, Quiet: m.Quiet, Want: int(min(m.Want, mostWanted)), Taker: dag.Taker{RTT: m.Rtt.AsDuration(), Pools: m.Pools},
		Returned: each(m.Returned, attemptFrom), Settled: each(m.Settled, ledFrom), Adrift: m.Adrift,
	}
	for _, h := range m.Held {
		r.Held = append(r.Held, dag.Held{AttemptID: attemptFrom(h.Attempt), Begun: h.Begun})
	}
	return r
}

// mostWanted bounds what a node can ask for at a time.
const mostWanted = 4096

func replyTo(r dag.Reply) *peerv1.WorkReply {
	return &peerv1.WorkReply{Seq: r.Seq, Stale: each(r.Stale, attemptTo), Recalled: each(r.Recalled, attemptTo), Leads: each(r.Leads, ledTo), Elsewhere: r.Elsewhere}
}

func replyFrom(m *peerv1.WorkReply) dag.Reply {
	return dag.Reply{Seq: m.Seq, Stale: each(m.Stale, attemptFrom), Recalled: each(m.Recalled, attemptFrom), Leads: each(m.Leads, ledFrom), Elsewhere: m.Elsewhere}
}

func ledTo(l dag.Led) *peerv1.LedShard   { return &peerv1.LedShard{Shard: l.Shard, Term: l.Term} }
func ledFrom(m *peerv1.LedShard) dag.Led { return dag.Led{Shard: m.GetShard(), Term: m.GetTerm()} }

// grantsTo puts into words what a node is given. What the tasks of a stage have in common is said once.
func grantsTo(attempts []*Attempt) *peerv1.Grants {
	type key struct {
		job   dag.JobID
		stage uint32
	}
	g := &peerv1.Grants{}
	stages := map[key]int{}
	for _, a := range attempts {
		k := key{a.Task.Job, a.Task.Stage}
		at, known := stages[k]
		if !known {
			at = len(g.Stages)
			stages[k] = at
			g.Stages = append(g.Stages, &peerv1.GrantedStage{Plan: a.Work.Stage, Inputs: each(a.Work.Inputs, inputTo)})
		}
		x := &peerv1.Grant{Attempt: attemptTo(a.ID()), Term: a.Term, Alone: a.Alone, Stage: uint32(at)}
		if inputs := each(a.Work.Inputs, inputTo); known && !slices.EqualFunc(inputs, g.Stages[at].Inputs, sameInput) {
			x.Inputs = inputs
		}
		g.Grants = append(g.Grants, x)
	}
	return g
}

// sameInput tells whether two inputs are the same output: a task makes one in each generation.
func sameInput(a, b *peerv1.TaskInput) bool {
	return a.Task == b.Task && a.Generation == b.Generation && a.Output.GetBytes().GetDigest() == b.Output.GetBytes().GetDigest()
}

func inputTo(i dag.Input) *peerv1.TaskInput {
	return &peerv1.TaskInput{Task: i.Task, Generation: i.Generation, Output: i.Output}
}

func inputFrom(m *peerv1.TaskInput) dag.Input {
	return dag.Input{Task: m.Task, Generation: m.Generation, Output: m.Output}
}

func each[A, B any](as []A, f func(A) B) []B {
	return lo.Map(as, func(a A, _ int) B { return f(a) })
}

// attemptsFrom is the other way around.
func attemptsFrom(g *peerv1.Grants) (attempts []*Attempt) {
	for _, x := range g.GetGrants() {
		if int(x.Stage) >= len(g.Stages) {
			continue
		}
		stage, id := g.Stages[x.Stage], attemptFrom(x.Attempt)
		w := &dag.Work{Stage: stage.Plan, Inputs: each(stage.Inputs, inputFrom)}
		if len(x.Inputs) > 0 {
			w.Inputs = each(x.Inputs, inputFrom)
		}
		attempts = append(attempts, &Attempt{
			Pick: dag.Pick{Task: id.Task, Generation: id.Generation, Attempt: id.Attempt, Term: x.Term, Alone: x.Alone}, Work: w,
		})
	}
	return attempts
}
