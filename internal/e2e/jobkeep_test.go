package e2e

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// blobFile finds the file of a blob below the data directory.
func (n *target) blobFile(t testing.TB, digest string) string {
	t.Helper()
	name := strings.TrimPrefix(digest, "sha256-")
	if _, err := hex.DecodeString(name); err != nil || len(name) != 64 {
		t.Fatalf("%q is no digest", digest)
	}
	var found string
	err := filepath.WalkDir(n.data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.HasSuffix(path, name) {
			found = path
		}
		return nil // folders of the store come and go
	})
	if err != nil || found == "" {
		t.Fatalf("no file of blob %s: %v", digest, err)
	}
	return found
}

// What a finished stage put out and its disk lost is made again, and the job's result is exact.
func TestLostOutputs(t *testing.T) {
	t.Parallel()
	dir := goFiles("go/types")
	want := countWords(t, dir)
	damages := map[string]func(path string) error{
		"deleted": os.Remove,
		"cut off": func(p string) error { return os.Truncate(p, 100) },
		"emptied": func(p string) error { return os.Truncate(p, 0) },
		"changed": func(p string) error {
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			for i := 0; i < len(b); i += 97 {
				b[i] ^= 0x40
			}
			return os.WriteFile(p, b, 0o644)
		},
	}
	for how, damage := range damages {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			both(t, node.Config{AllowDirs: []string{dir}}, func(t *testing.T, n *target) {
				n.pushPlugin("wordcount")
				n.pushFixture("nap")
				// The gate keeps the reduce back for long enough to pause the job in between.
				job := n.submit(`
name: lossy
stages:
  - {name: count, function: wordcount/map, files: {dir: "${dir}", glob: "*.go", split_bytes: 300000}, combiner: wordcount/sum}
  - {name: gate, function: nap/nap, value: "2000", after: count}
  - {name: total, function: wordcount/reduce, reduce: {stage: count, partitions: 3}, after: gate}
`, map[string]string{"dir": dir})
				eventually(t, "the maps are done", func() bool { return n.get(t, job.Id).Stages[0].State == wattlev1.StageState_STAGE_STATE_COMPLETED })
				if paused, err := n.pause(t, job.Id); err != nil || paused.Stages[2].State != wattlev1.StageState_STAGE_STATE_PENDING {
					t.Fatalf("not paused in between: %v, %v", paused, err)
				}
				tasks := n.tasks(t, job.Id, "count")
				for _, task := range tasks[:len(tasks)/2] {
					if err := damage(n.blobFile(t, task.OutputDigest)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := n.resume(t, job.Id); err != nil {
					t.Fatal(err)
				}
				done := n.complete(job.Id)
				sameCounts(t, n.counts(job.Id, "total"), want)
				for i, task := range n.tasks(t, job.Id, "count") {
					if again := i < len(tasks)/2; again != (task.Generation > 0) || task.OutputDigest != tasks[i].OutputDigest || len(task.Errors) > 0 {
						t.Errorf("lost %v: %v", again, task)
					}
				}
				for _, s := range done.Stages {
					if s.Failures > 0 || s.Completed != s.Tasks {
						t.Errorf("%v", s)
					}
				}
			})
		})
	}
}

// A node that was stopped and started again has everything it had; what ran goes on, and none of that counts as a failure.
func TestRestartKeeps(t *testing.T) {
	t.Parallel()
	both(t, node.Config{Slots: 4}, func(t *testing.T, n *target) {
		n.bystander()
		n.push("nap", testdata.Wasm("nap"), client.PushOptions{Aliases: []string{"live"}})
		n.push("nap", testdata.Wasm("sleep"), client.PushOptions{Aliases: []string{"next"}})
		endless := n.submit("{name: endless, stages: [{name: a, function: nap@next/sleep, value: x, timeout: 3600s}]}", nil)
		paused := n.submit("{name: paused, stages: [{name: a, function: nap@live/nap, max_parallel: 1, items: ['500', '1', '1']}]}", nil)
		if _, err := n.pause(t, paused.Id); err != nil {
			t.Fatal(err)
		}
		var items, want []string
		for i := range 150 {
			items = append(items, fmt.Sprintf("'20 #%d'", i))
			want = append(want, fmt.Sprintf("20 #%d", i))
		}
		naps := n.submit("{name: naps, stages: [{name: a, function: nap@live/nap, items: ["+strings.Join(items, ", ")+"]}, {name: all, collect: a}]}", nil)
		const restarts = 5
		for range restarts {
			n.runs(t, endless.Id, 0, 1)
			n.stop()
			n = n.again()
		}
		n.runs(t, endless.Id, 0, 1)
		n.complete(naps.Id)
		// It is shown as running from when it is picked; its start is recorded a moment later.
		eventually(t, "the last start is recorded", func() bool { return n.tasks(t, endless.Id, "a")[0].Attempt >= 1+2*restarts })
		if got := n.output(t, naps.Id, "", -1); got != strings.Join(want, "") {
			t.Errorf("%q", got)
		}
		for _, id := range []string{naps.Id, endless.Id} {
			j := n.get(t, id)
			for _, task := range n.tasks(t, id, "a") {
				if len(task.Errors) > 0 || j.Stages[0].Failures > 0 || task.State == wattlev1.TaskState_TASK_STATE_DISCARDED {
					t.Errorf("%s: a stop counts as a failure: %v", j.Name, task)
				}
				// Each stop gives it back, each start begins it again.
				if id == endless.Id && task.Attempt != 1+2*restarts {
					t.Errorf("attempt %d after %d restarts", task.Attempt, restarts)
				}
			}
		}
		if j := n.get(t, paused.Id); j.State != wattlev1.JobState_JOB_STATE_PAUSED || j.Stages[0].Running > 0 {
			t.Errorf("paused before the restarts, now %v", j)
		}
		if _, err := n.resume(t, paused.Id); err != nil {
			t.Error(err)
		}
		n.complete(paused.Id)
		res, err := n.Registry.GetService(t.Context(), connect.NewRequest(&wattlev1.GetServiceRequest{Name: "nap"}))
		if err != nil || len(res.Msg.Service.Versions) != 2 || res.Msg.Service.Aliases["live"] != 1 || res.Msg.Service.Aliases["next"] != 2 {
			t.Errorf("%v, %v", res, err)
		}
		if got, err := n.Invoke(t.Context(), "nap@live/nap", []byte("1")); err != nil || string(got) != "1" {
			t.Errorf("%q, %v", got, err)
		}
		n.cancel(t, endless.Id)
		eventually(t, "nothing runs", func() bool { return n.idle(t) })
		n.undisturbed(t, 3, "nap")
	})
}
