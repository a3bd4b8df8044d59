package main

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

var mainjobBench = Bench{
	Name: "mainjob",
	About: "The words of Go's standard library counted by plugins in three languages as a durable map-reduce job, from submission to the last count read back, " +
		"beside a plain Go program that counts the same files in memory with one goroutine for each CPU. Wattle syncs every record and output; the plain program keeps nothing.",
	Run: runMainjob,
}

func runMainjob(ctx context.Context, rounds int) (rows []Row, err error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(strings.TrimSpace(string(b)), "src")
	for _, guest := range []struct{ name, source string }{{"C guest", "polyglot/c"}, {"Rust guest", "polyglot/rust"}, {"Go guest", "wordcount"}} {
		wasm, err := plugin(ctx, guest.source)
		if err != nil {
			fmt.Fprintf(os.Stderr, "left out: %s: %v\n", guest.name, err)
			continue
		}
		more, err := runMainjobWith(ctx, rounds, guest.name, wasm, dir)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	return rows, nil
}

func runMainjobWith(ctx context.Context, rounds int, name string, wasm []byte, dir string) (rows []Row, err error) {
	var ours, theirs map[string]int
	err = withNode(ctx, node.Config{AllowDirs: []string{dir}}, func(c *client.Client, _ string) error {
		if _, _, err := c.Push(ctx, "wordcount", wasm, client.PushOptions{}); err != nil {
			return err
		}
		rows, err = compare(ctx, "mainjob", "word count of Go's source, "+name, "plain parallel Go", min(rounds, 3), [][2]string{{"time", "s"}},
			func(ctx context.Context) (s sample, err error) {
				t := time.Now()
				ours, err = countWithJob(ctx, c, dir)
				return sample{"time": time.Since(t).Seconds()}, err
			},
			func(context.Context) (s sample, err error) {
				t := time.Now()
				theirs, err = countPlainly(dir)
				return sample{"time": time.Since(t).Seconds()}, err
			})
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(ours) != len(theirs) {
		return nil, fmt.Errorf("wattle found %d words, the plain program %d", len(ours), len(theirs))
	}
	for w, n := range theirs {
		if ours[w] != n {
			return nil, fmt.Errorf("wattle counted %q %d times, the plain program %d times", w, ours[w], n)
		}
	}
	return rows, nil
}

func countWithJob(ctx context.Context, c *client.Client, dir string) (map[string]int, error) {
	job, err := c.Submit(ctx, &wattlev1.JobSpec{Name: "wordcount", Stages: []*wattlev1.StageSpec{{
		Name: "count", Function: "wordcount/map", Combiner: "wordcount/sum",
		Input: &wattlev1.StageSpec_Files{Files: &wattlev1.FilesInput{Dir: dir, Glob: "*.go"}},
	}, {
		Name: "total", Function: "wordcount/reduce", Input: &wattlev1.StageSpec_Reduce{Reduce: &wattlev1.ReduceInput{Stage: "count"}},
	}}}, "")
	if err != nil {
		return nil, err
	}
	if job, err = c.Watch(ctx, job.Id, nil); err != nil {
		return nil, err
	}
	if job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
		return nil, fmt.Errorf("job %v: %v", job.State, job.Error)
	}
	counts := map[string]int{}
	return counts, c.Records(ctx, job.Id, "total", func(k, v []byte) error {
		n, err := strconv.Atoi(string(v))
		counts[string(k)] = n
		return err
	})
}

// countPlainly is how one would write it without a system.
func countPlainly(dir string) (map[string]int, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".go") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	next := make(chan string)
	var mu sync.Mutex
	total := map[string]int{}
	var failed error
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			counts := map[string]*int{}
			for f := range next {
				b, err := os.ReadFile(f)
				if err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
				countInto(counts, b)
			}
			mu.Lock()
			defer mu.Unlock()
			for w, n := range counts {
				total[w] += *n
			}
		})
	}
	for _, f := range files {
		next <- f
	}
	close(next)
	wg.Wait()
	return total, failed
}

func countInto(counts map[string]*int, b []byte) {
	b = bytes.Clone(b)
	start := -1
	for i := 0; i <= len(b); i++ {
		if i < len(b) {
			c := b[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
				b[i] = c
			}
			if 'a' <= c && c <= 'z' {
				if start < 0 {
					start = i
				}
				continue
			}
		}
		if start >= 0 {
			if n := counts[string(b[start:i])]; n != nil {
				*n++
			} else {
				one := 1
				counts[string(b[start:i])] = &one
			}
			start = -1
		}
	}
}
