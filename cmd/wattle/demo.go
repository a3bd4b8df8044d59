package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/plugins"
	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

type demo struct {
	input, glob, out string
	top              int
	cfg              node.Config
}

func (a *app) demo() *cobra.Command {
	d := &demo{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Count the words of many files as a map-reduce job, with nothing to set up",
		Long: "Start a throw-away node, build and push the word count plugin, and count the words of every file below --input that matches " +
			"--glob as a durable map-reduce job. The default input is the source of Go's standard library.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return done(cmd.Context(), a.runDemo(cmd.Context(), d)) },
	}
	f := c.Flags()
	f.StringVar(&d.input, "input", "", "the directory to read (default the source of Go's standard library)")
	f.StringVar(&d.glob, "glob", "*.go", "which files below it")
	f.IntVar(&d.top, "top", 10, "how many of the most frequent words to print")
	f.StringVar(&d.out, "out", "", "a file for all counts, as JSON")
	sizeVar(f, &d.cfg.ShuffleBytes, "shuffle-memory", "records a task keeps in memory before it spills (default 64MiB)")
	f.Uint64Var(&d.cfg.TrimEntries, "trim-entries", 0, "log entries a shard keeps before it drops the beginning (default 10000)")
	return c
}

func (a *app) runDemo(ctx context.Context, d *demo) (err error) {
	if d.top < 0 {
		return usage("--top %d: want 0 or more", d.top)
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	say := func(format string, args ...any) {
		if a.output == "text" {
			fmt.Fprintf(a.stderr, format+"\n", args...)
		}
	}
	if _, err := exec.LookPath("go"); err != nil {
		return fault.New(fault.Precondition, "no_go", "the demo builds its functions with Go, and there is no go command here").
			Hint("install Go 1.24 or newer from https://go.dev/dl/ and try again")
	}
	if d.input == "" {
		if d.input, err = goSource(ctx); err != nil {
			return err
		}
	}
	if d.input, err = filepath.Abs(d.input); err != nil {
		return err
	}
	if d.out != "" {
		// Found out now rather than after the work.
		f, err := os.OpenFile(d.out, os.O_WRONLY|os.O_CREATE, 0o644)
		if err != nil {
			return err
		}
		f.Close()
	}
	dir, err := os.MkdirTemp("", "wattle-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	say("building the word count plugin")
	src, err := fs.Sub(plugins.FS, "wordcount")
	if err != nil {
		return err
	}
	wasmFile := filepath.Join(dir, "wordcount.wasm")
	if err := sdkguest.BuildPlugin(ctx, src, "wordcount", wasmFile); err != nil {
		return err
	}
	wasm, err := os.ReadFile(wasmFile)
	if err != nil {
		return err
	}
	d.cfg.Data, d.cfg.Addr, d.cfg.AllowDirs, d.cfg.Version = filepath.Join(dir, "data"), "127.0.0.1:0", []string{d.input}, buildVersion()
	d.cfg.Processors = spareProcessor()
	return withNode(ctx, d.cfg, func(ctx context.Context, n *node.Node) error {
		cl := client.Dial(n.Addr())
		defer cl.Close()
		say("pushing it to a node at http://%s", n.Addr())
		if _, _, err := cl.Push(ctx, "wordcount", wasm, client.PushOptions{}); err != nil {
			return err
		}
		return a.count(ctx, cl, d, say)
	})
}

// withNode runs fn beside a node, and stops the node when fn is done.
func withNode(ctx context.Context, cfg node.Config, fn func(context.Context, *node.Node) error) error {
	n, err := node.New(ctx, cfg)
	if err != nil {
		return err
	}
	nctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- n.Run(nctx) }()
	select {
	case <-n.Ready():
		err = fn(ctx, n)
	case err = <-ended:
		ended <- err
	case <-ctx.Done():
		err = ctx.Err()
	}
	stop()
	return cmp.Or(err, <-ended)
}

func goSource(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOROOT: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(b)), "src"), nil
}

// count runs the main job and prints what came out.
func (a *app) count(ctx context.Context, cl *client.Client, d *demo, say func(string, ...any)) error {
	start := time.Now()
	job, err := cl.Submit(ctx, &wattlev1.JobSpec{
		Name: "wordcount",
		Stages: []*wattlev1.StageSpec{{
			Name: "count", Function: "wordcount/map", Combiner: "wordcount/sum",
			Input: &wattlev1.StageSpec_Files{Files: &wattlev1.FilesInput{Dir: d.input, Glob: d.glob}},
		}, {
			Name: "total", Function: "wordcount/reduce", Input: &wattlev1.StageSpec_Reduce{Reduce: &wattlev1.ReduceInput{Stage: "count"}},
		}},
	}, "")
	if err != nil {
		return err
	}
	say("job %s counts the words of %s below %s", job.Id, d.glob, d.input)
	p := a.progress("job")
	job, err = cl.Watch(ctx, job.Id, p.job)
	p.done()
	if err != nil {
		return err
	}
	if err := jobError(job); err != nil {
		return err
	}
	took := time.Since(start)
	counts := map[string]int{}
	err = cl.Records(ctx, job.Id, "total", func(key, value []byte) error {
		n, err := strconv.Atoi(string(value))
		counts[string(key)] += n
		return err
	})
	if err != nil {
		return err
	}
	if d.out != "" {
		if err := writeCounts(d.out, counts); err != nil {
			return err
		}
	}
	return a.printCounts(job, counts, took, d)
}

func writeCounts(name string, counts map[string]int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := json.NewEncoder(w).Encode(counts); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}

func (a *app) printCounts(job *wattlev1.Job, counts map[string]int, took time.Duration, d *demo) error {
	words := make([]string, 0, len(counts))
	total := 0
	for w, n := range counts {
		words = append(words, w)
		total += n
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	top := words[:min(d.top, len(words))]
	var tasks uint32
	var bytes uint64
	for _, s := range job.Stages {
		tasks += s.Tasks
		bytes += s.InputBytes
	}
	rate := float64(bytes) / (1 << 20) / took.Seconds()
	if a.output == "json" {
		type entry struct {
			Word  string `json:"word"`
			Count int    `json:"count"`
		}
		res := struct {
			Top      []entry `json:"top"`
			Words    int     `json:"words"`
			Distinct int     `json:"distinct"`
			Tasks    uint32  `json:"tasks"`
			Bytes    uint64  `json:"bytes"`
			Seconds  float64 `json:"seconds"`
			Rate     float64 `json:"mib_per_s"`
		}{[]entry{}, total, len(words), tasks, bytes, took.Seconds(), rate}
		for _, w := range top {
			res.Top = append(res.Top, entry{w, counts[w]})
		}
		return json.NewEncoder(a.stdout).Encode(res)
	}
	for _, w := range top {
		fmt.Fprintf(a.stdout, "%10d  %s\n", counts[w], w)
	}
	_, err := io.WriteString(a.stdout, fmt.Sprintf("\n%d words, %d distinct; %d tasks, %d bytes, %.2f s, %.1f MiB/s\n",
		total, len(words), tasks, bytes, took.Seconds(), rate))
	return err
}
