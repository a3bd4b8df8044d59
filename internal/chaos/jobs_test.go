package chaos

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// job is one that was acknowledged, or was to be.
type job struct {
	kind, key, id string
	spec          *wattlev1.JobSpec
	// is compares a result with what it must be.
	is func(stageOutput []byte) error

	mu       sync.Mutex
	over     bool // it was seen complete
	failed   bool
	compared bool // its result was seen to be right
	deleted  bool // it may be gone,
	gone     bool // and is
}

// texts writes files for word counts, the same on all machines.
func (r *run) texts() {
	for i := range 12 {
		var b bytes.Buffer
		for j := range 400 {
			fmt.Fprintf(&b, "word%c in file %c\n", 'a'+rune(j%(i+3)), 'a'+rune(i))
		}
		if err := os.WriteFile(filepath.Join(r.net.dir, "texts", fmt.Sprintf("%d.txt", i)), b.Bytes(), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// newJob draws a job whose result is known.
func (r *run) newJob(rng *rand.Rand, name string) *job {
	j := &job{key: name}
	var text string
	switch n := rng.IntN(20); {
	case n < 8: // many short tasks
		j.kind = "short"
		items := each(3+rng.IntN(20), func(i int) string { return fmt.Sprintf("%d item %d of %s;", rng.IntN(60), i, name) })
		text = fmt.Sprintf("{name: %s, stages: [{name: nap, function: nap/nap, items: [%s]}, {name: all, collect: nap}]}", name, quoted(items))
		j.is = isText(strings.Join(items, ""))
	case n < 10: // longer than a lease
		j.kind = "long"
		items := each(1+rng.IntN(3), func(i int) string { return fmt.Sprintf("%d item %d of %s;", 5500+rng.IntN(2000), i, name) })
		text = fmt.Sprintf("{name: %s, stages: [{name: nap, function: nap/nap, items: [%s]}, {name: all, function: echo/echo, each: nap}]}", name, quoted(items))
		j.is = isText(strings.Join(items, ""))
	case n < 15:
		j.kind = "shuffle"
		want := map[string]int{}
		items := each(2+rng.IntN(6), func(int) string {
			var b strings.Builder
			for range 1 + rng.IntN(20) {
				key := string(rune('a' + rng.IntN(9)))
				want[key]++
				fmt.Fprintf(&b, "\x01%s\x011", key)
			}
			return b.String()
		})
		text = fmt.Sprintf("{name: %s, stages: [{name: map, function: mapreduce/map, items: [%s]}, {name: reduce, function: mapreduce/reduce, reduce: {stage: map, partitions: %d}}]}",
			name, quoted(items), 1+rng.IntN(4))
		j.is = isGroups(want)
	case n < 18: // outputs that are blobs
		j.kind = "big"
		items := each(1+rng.IntN(4), func(i int) string { return fmt.Sprintf("item %d of %s;", i, name) })
		text = fmt.Sprintf("{name: %s, stages: [{name: first, function: echo/echo, items: [%s]}, {name: big, function: mapreduce/big, each: first}, {name: all, collect: big}]}", name, quoted(items))
		var want []byte
		for _, item := range items {
			want = append(append(want, item...), make([]byte, 128<<10-len(item))...)
		}
		j.is = isText(string(want))
	default:
		j.kind = "wordcount"
		text = fmt.Sprintf("{name: %s, stages: [{name: count, function: wordcount/map, combiner: wordcount/sum, files: {dir: %s, glob: \"*.txt\", split_bytes: %d}}, {name: total, function: wordcount/reduce, reduce: {stage: count, partitions: 3}}]}",
			name, filepath.Join(r.net.dir, "texts"), 8000+rng.IntN(30000))
		j.is = isWordCount
	}
	spec, err := dag.ParseSpec([]byte(text), nil)
	if err != nil {
		r.violate("the spec of %s: %v", name, err)
	}
	j.spec = spec
	return j
}

func each(n int, of func(int) string) (all []string) {
	for i := range n {
		all = append(all, of(i))
	}
	return all
}

func quoted(items []string) string {
	return strings.Join(each(len(items), func(i int) string { return fmt.Sprintf("%q", items[i]) }), ", ")
}

func isText(want string) func([]byte) error {
	return func(got []byte) error {
		if string(got) != want {
			return fmt.Errorf("the result has %d bytes: %.200q, want %d: %.200q", len(got), got, len(want), want)
		}
		return nil
	}
}

// isGroups reads groups: a key after its length, values after their length plus one, then zero.
func isGroups(want map[string]int) func([]byte) error {
	return func(got []byte) error {
		counts := map[string]int{}
		for r := bytes.NewReader(got); r.Len() > 0; {
			key, err := field(r, 0)
			if err != nil {
				return err
			}
			if counts[key] > 0 {
				return fmt.Errorf("key %q is there twice", key)
			}
			for value := "1"; value != ""; {
				if value, err = field(r, 1); err != nil || value != "" && value != "1" {
					return fmt.Errorf("key %q has value %q, %v", key, value, err)
				}
				if value != "" {
					counts[key]++
				}
			}
		}
		if !maps.Equal(counts, want) {
			return fmt.Errorf("the result is %v, want %v", counts, want)
		}
		return nil
	}
}

func field(r *bytes.Reader, more uint64) (string, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil || n < more {
		return "", err
	}
	b := make([]byte, n-more)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

// wordCount counts the words of the texts another way than the plugin.
func wordCount() map[string]int {
	want := map[string]int{}
	for i := range 12 {
		want["file"] += 400
		want["in"] += 400
		want[string(rune('a'+i))] += 400
		for j := range 400 {
			want[fmt.Sprintf("word%c", 'a'+rune(j%(i+3)))]++
		}
	}
	return want
}

// isWordCount reads records of words and numbers.
func isWordCount(got []byte) error {
	want := wordCount()
	counts := map[string]int{}
	w := client.NewRecordWriter(func(key, value []byte) error {
		n := 0
		if _, err := fmt.Sscan(string(value), &n); err != nil || counts[string(key)] != 0 {
			return fmt.Errorf("%q: %q after %d", key, value, counts[string(key)])
		}
		counts[string(key)] = n
		return nil
	})
	if _, err := w.Write(got); err != nil {
		return err
	}
	if !maps.Equal(counts, want) {
		return fmt.Errorf("the result is %v, want %v", counts, want)
	}
	return nil
}

// submitJobs hands jobs over, one after another, and looks at them until they are over.
func (r *run) submitJobs(ctx context.Context, who int) {
	rng := rand.New(rand.NewPCG(uint64(r.begun.UnixNano()), uint64(10+who)))
	for n := 1; pause(ctx, 100*time.Millisecond); n++ {
		j := r.newJob(rng, fmt.Sprintf("job-%d-%d", who, n))
		start := time.Now()
		if !r.submit(ctx, rng, j) {
			continue
		}
		r.book.taken(j, time.Since(start))
		if rng.IntN(3) == 0 {
			r.resubmit(ctx, rng, j)
		}
		// What takes longer is left to itself: the end of the run asks for it.
		for end := time.Now().Add(20 * time.Second); !j.isOver() && time.Now().Before(end) && pause(ctx, 100*time.Millisecond); {
			r.look(ctx, r.one(rng), j)
		}
		if j.isOver() && !j.failed && r.check(ctx, r.one(rng), j) == nil && j.kind == "big" {
			r.remove(ctx, rng, j)
		}
	}
}

func (j *job) isOver() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.over
}

// submit asks one node after the other, until one acknowledges the job.
func (r *run) submit(ctx context.Context, rng *rand.Rand, j *job) bool {
	for ctx.Err() == nil {
		id, err := r.submitOnce(ctx, r.one(rng), j)
		if err == nil {
			j.id = id
			return true
		}
		r.book.unanswered("submit")
		if c := connect.CodeOf(err); c == connect.CodeInvalidArgument || c == connect.CodeInternal || c == connect.CodeDataLoss {
			r.violate("%s is refused: %v", j.key, err)
			return false
		}
		pause(ctx, 100*time.Millisecond)
	}
	return false
}

func (r *run) submitOnce(ctx context.Context, m *machine, j *job) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := m.client.Jobs.SubmitJob(ctx, connect.NewRequest(&wattlev1.SubmitJobRequest{Spec: j.spec, IdempotencyKey: j.key}))
	if err != nil {
		return "", err
	}
	if res.Msg.Created && j.id != "" {
		r.violate("%s was acknowledged as %s, and made anew when it was submitted again", j.key, j.id)
	}
	return res.Msg.Job.Id, nil
}

// resubmit submits a job again under its key: it is the same one.
func (r *run) resubmit(ctx context.Context, rng *rand.Rand, j *job) {
	if id, err := r.submitOnce(ctx, r.one(rng), j); err == nil {
		r.book.resubmitted()
		if id != j.id {
			r.violate("%s was acknowledged as %s, and is %s when submitted again", j.key, j.id, id)
		}
	}
}

// look asks for a job that was acknowledged. It is there, and once it is over it stays as it is.
func (r *run) look(ctx context.Context, m *machine, j *job) error {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	res, err := m.client.Jobs.GetJob(ctx, connect.NewRequest(&wattlev1.GetJobRequest{Id: j.id}))
	if client.IsNotFound(err) {
		r.violate("%s, %s, was acknowledged, and is not known to node %d: %v", j.key, j.id, m.n, err)
	}
	if err != nil {
		return err
	}
	state := res.Msg.Job.State
	j.mu.Lock()
	was := j.over
	j.over = was || client.Final(state)
	fails := client.Final(state) && state != wattlev1.JobState_JOB_STATE_COMPLETED && !j.failed
	j.failed = j.failed || fails
	j.mu.Unlock()
	switch {
	case fails:
		r.violate("%s, %s, ended as %v: %v", j.key, j.id, state, res.Msg.Job.Error)
	case was && !client.Final(state):
		r.violate("%s, %s, was over, and is %v", j.key, j.id, state)
	}
	return nil
}

// check compares the result of a job that is over. That it cannot be read is an error, that it is wrong a violation.
func (r *run) check(ctx context.Context, m *machine, j *job) error {
	ctx, cancel := context.WithTimeout(ctx, 3*askTime)
	defer cancel()
	var out bytes.Buffer
	if err := m.client.Result(ctx, j.id, "", -1, func(*wattlev1.ResultHeader) (io.Writer, error) { return &out, nil }); err != nil {
		return err
	}
	if err := j.is(out.Bytes()); err != nil {
		r.violate("%s, %s: %v", j.key, j.id, err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.compared {
		r.book.compared(j.kind)
	}
	j.compared = true
	return nil
}

// remove deletes a job, so that what it left can be collected.
func (r *run) remove(ctx context.Context, rng *rand.Rand, j *job) {
	j.mu.Lock()
	j.deleted = true
	j.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	_, err := r.one(rng).client.Jobs.DeleteJob(ctx, connect.NewRequest(&wattlev1.DeleteJobRequest{Id: j.id}))
	if err != nil {
		r.book.unanswered("delete")
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.gone = true
}
