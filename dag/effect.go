package dag

import "time"

// Run says that tasks may start: Count tasks from Task on, of which each is at the same attempt.
type Run struct {
	Task       TaskID
	Count      uint32
	Generation uint32
	Attempt    uint32
	// Term is the one in which the attempt was recorded. In that term it may be started once as it is; in a later one,
	// or a second time, a Start must be recorded first.
	Term uint64
	// NotBefore is when a retry is due; zero at once.
	NotBefore time.Time
	// Alone tasks were running when nodes died, twice: they run with nothing beside them.
	Alone bool
	// Pool names the workers it is for; without a name it is for all.
	Pool string
	// MaxParallel bounds the running tasks of the job and of the stage; zero is no bound.
	MaxParallel, StageMaxParallel uint32
	// Each tells that every task reads one output of stage From, that of the task with its number.
	Each bool
	From uint32
	// External tasks are for clients. Tenure says which one has the attempt, if one has it.
	External bool
	Tenure   Tenure
	// Timeout is how long an external attempt may take; zero is any time.
	Timeout time.Duration
}

// Tenure says that a client has an attempt.
type Tenure struct {
	Client string
	Lease  time.Duration
	Since  time.Time
}

// Extended says that the lease of a client's attempt begins anew.
type Extended struct {
	AttemptID
	Lease time.Duration
}

// Hold takes the waiting tasks of a job out of the queue, or of one stage of it. Running ones go on.
type Hold struct {
	Job   JobID
	Stage uint32
	All   bool
}

// Ended says that an attempt is over, how long it took if it completed, and where its output is.
type Ended struct {
	AttemptID
	Took time.Duration
	// At is the node that has what it put out, if that is a blob that one other task reads.
	At string
}

// Stop says that a job is final: what still runs for it is stopped.
type Stop struct{ Job JobID }

// Deadline asks for an Expire command at a time.
type Deadline struct {
	Job JobID
	At  time.Time
}

// Changed says that a job is no longer what it was, for those who watch it.
type Changed struct{ Job JobID }
