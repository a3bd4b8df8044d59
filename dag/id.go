package dag

import (
	"encoding/base32"
	"fmt"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// JobID names a job: 26 letters and digits, the hash of its namespace and idempotency key, so that a retried
// submission finds the job the first one made.
type JobID string

const jobIDLen = 26

// DefaultNamespace is where jobs live until there are others.
const DefaultNamespace = "default"

var idEncoding = base32.NewEncoding("0123456789abcdefghjkmnpqrstvwxyz").WithPadding(base32.NoPadding)

// NewJobID returns the ID of the job with this idempotency key.
func NewJobID(namespace, key string) JobID {
	d := digest.Of([]byte(namespace + "\x00" + key))
	return JobID(idEncoding.EncodeToString(d[:16]))
}

// ParseJobID checks that s can be the ID of a job.
func ParseJobID(s string) (JobID, error) {
	if _, err := idEncoding.DecodeString(s); err != nil || len(s) != jobIDLen {
		return "", fault.New(fault.Invalid, "bad_job_id", "%.60q is not the ID of a job: want 26 letters and digits", s).
			Hint("wattle job ls lists the jobs there are")
	}
	return JobID(s), nil
}

// TaskID names one task of a job: its stage by place in the plan, and its index within the stage.
type TaskID struct {
	Job   JobID
	Stage uint32
	Index uint32
}

func (t TaskID) String() string { return fmt.Sprintf("%s/%d/%d", t.Job, t.Stage, t.Index) }

// AttemptID names one try of a task: the attempts of each generation of its output count from 1.
type AttemptID struct {
	Task                TaskID
	Generation, Attempt uint32
}

func errUnknownJob(id JobID) *fault.Error {
	return fault.New(fault.NotFound, "unknown_job", "there is no job %s", id).Hint("wattle job ls lists the jobs there are")
}

func errUnknownTask(t TaskID) *fault.Error {
	return fault.New(fault.NotFound, "unknown_task", "job %s has no task %d in stage %d", t.Job, t.Index, t.Stage)
}

func errFinal(id JobID) *fault.Error {
	return fault.New(fault.Precondition, "job_final", "job %s is over already", id).Hint("wattle job get %s says how it ended", id)
}
