package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

func (a *app) job() *cobra.Command {
	c := &cobra.Command{Use: "job", Short: "Run jobs and look after them"}
	c.AddCommand(a.jobRun(), a.jobList(), a.jobGet(), a.jobWatch(), a.jobTasks(), a.jobGraph(), a.jobWork(),
		a.jobDo("cancel", "End a job; its running tasks are stopped", func(ctx context.Context, id string) (*wattlev1.Job, error) {
			res, err := a.client().Jobs.CancelJob(ctx, connect.NewRequest(&wattlev1.CancelJobRequest{Id: id}))
			if err != nil {
				return nil, err
			}
			return res.Msg.Job, nil
		}),
		a.jobDo("pause", "Start no further tasks of a job", func(ctx context.Context, id string) (*wattlev1.Job, error) {
			res, err := a.client().Jobs.PauseJob(ctx, connect.NewRequest(&wattlev1.PauseJobRequest{Id: id}))
			if err != nil {
				return nil, err
			}
			return res.Msg.Job, nil
		}),
		a.jobDo("resume", "Go on with a paused job", func(ctx context.Context, id string) (*wattlev1.Job, error) {
			res, err := a.client().Jobs.ResumeJob(ctx, connect.NewRequest(&wattlev1.ResumeJobRequest{Id: id}))
			if err != nil {
				return nil, err
			}
			return res.Msg.Job, nil
		}),
		&cobra.Command{
			Use: "rm ID", Short: "Forget a job that is over, and its results", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				_, err := a.client().Jobs.DeleteJob(cmd.Context(), connect.NewRequest(&wattlev1.DeleteJobRequest{Id: args[0]}))
				return err
			},
		})
	return c
}

func (a *app) jobRun() *cobra.Command {
	var vars []string
	var detach bool
	var key string
	c := &cobra.Command{
		Use: "run SPEC", Short: "Run a job from a spec in YAML or JSON, \"-\" for standard input", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readSpec(a.stdin, args[0])
			if err != nil {
				return err
			}
			set := map[string]string{}
			for _, v := range vars {
				name, value, ok := strings.Cut(v, "=")
				if !ok {
					return usage("--set %s: want NAME=VALUE", v)
				}
				set[name] = value
			}
			spec, err := dag.ParseSpec(text, set)
			if err != nil {
				return err
			}
			cl := a.client()
			job, err := cl.Submit(cmd.Context(), spec, key)
			if err != nil {
				return done(cmd.Context(), err)
			}
			if detach {
				return a.print(job, func(w io.Writer) { fmt.Fprintln(w, job.Id) })
			}
			if a.output == "text" {
				fmt.Fprintf(a.stderr, "job %s\n", job.Id)
			}
			return a.watch(cmd.Context(), cl, job.Id, false)
		},
	}
	c.Flags().StringArrayVar(&vars, "set", nil, "NAME=VALUE for ${NAME} in the spec; may be repeated")
	c.Flags().BoolVar(&detach, "detach", false, "print the job's ID and do not wait")
	c.Flags().StringVar(&key, "key", "", "idempotency key: a job submitted twice with it runs once")
	return c
}

func readSpec(stdin io.Reader, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(io.LimitReader(stdin, dag.MaxSpec+1))
	}
	return os.ReadFile(name)
}

// watch shows a job until it is over, and fails if the job did.
func (a *app) watch(ctx context.Context, cl *client.Client, id string, stream bool) error {
	p := a.progress("job")
	job, err := cl.Watch(ctx, id, func(j *wattlev1.Job) {
		if stream && a.output == "json" {
			a.print(j, nil)
			return
		}
		p.job(j)
	})
	p.done()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted; the job goes on: wattle job watch %s", id)
		}
		return err
	}
	if !stream || a.output == "text" {
		if err := a.print(job, func(w io.Writer) { printJob(w, job) }); err != nil {
			return err
		}
	}
	return jobError(job)
}

// jobError is the error of a command that waited for a job which did not complete.
func jobError(j *wattlev1.Job) error {
	switch j.State {
	case wattlev1.JobState_JOB_STATE_COMPLETED:
		return nil
	case wattlev1.JobState_JOB_STATE_CANCELED:
		return fmt.Errorf("job %s was canceled", j.Id)
	}
	e := j.Error
	if e.GetStage() == "" {
		return fmt.Errorf("job %s failed: %s", j.Id, e.GetMessage())
	}
	return fmt.Errorf("job %s failed in stage %s, task %d, attempt %d: %s", j.Id, e.Stage, e.Task, e.Attempt, e.Message)
}

func stateName(s fmt.Stringer) string {
	t := s.String()
	for _, p := range []string{"JOB_STATE_", "STAGE_STATE_", "TASK_STATE_"} {
		t = strings.TrimPrefix(t, p)
	}
	return strings.ToLower(t)
}

func (a *app) jobList() *cobra.Command {
	var limit uint32
	c := &cobra.Command{
		Use: "ls", Short: "List jobs, newest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Jobs.ListJobs(cmd.Context(), connect.NewRequest(&wattlev1.ListJobsRequest{Limit: limit}))
			if err != nil {
				return err
			}
			return a.print(res.Msg, func(w io.Writer) {
				table(w, "JOB\tNAME\tSTATE\tCREATED\tTOOK", func(row func(...any)) {
					for _, j := range res.Msg.Jobs {
						row(j.Id, cmp.Or(j.Name, "-"), stateName(j.State), since(j.CreatedAt.AsTime()), took(j))
					}
				})
			})
		},
	}
	c.Flags().Uint32Var(&limit, "limit", 100, "at most so many")
	return c
}

func took(j *wattlev1.Job) string {
	if j.FinalizedAt == nil {
		return "-"
	}
	return j.FinalizedAt.AsTime().Sub(j.CreatedAt.AsTime()).Round(time.Millisecond).String()
}

func printJob(w io.Writer, j *wattlev1.Job) {
	fmt.Fprintf(w, "job %s %s: %s", j.Id, j.Name, stateName(j.State))
	if j.FinalizedAt != nil {
		fmt.Fprintf(w, " in %s", took(j))
	}
	fmt.Fprintln(w)
	if j.Error != nil {
		fmt.Fprintf(w, "error: %s\n", plain(j.Error.Message))
	}
	table(w, "STAGE\tFUNCTION\tSTATE\tTASKS\tRUNNING\tFAILURES\tIN\tOUT", func(row func(...any)) {
		for _, s := range j.Stages {
			row(s.Name, functionOf(s), stateName(s.State), fmt.Sprintf("%d/%d", s.Completed, s.Tasks), s.Running, s.Failures, sizeOf(s.InputBytes), sizeOf(s.OutputBytes))
		}
	})
	for _, s := range j.Stages {
		if s.Waiting != "" {
			fmt.Fprintf(w, "stage %s waits: %s\n", s.Name, s.Waiting)
		}
	}
}

// functionOf says what runs the tasks of a stage.
func functionOf(s *wattlev1.Stage) string {
	f := cmp.Or(s.Function, "-")
	if s.External {
		f = "(external)"
	}
	if s.Pool != "" {
		f += " on " + s.Pool
	}
	return f
}

func (a *app) jobGet() *cobra.Command {
	var result bool
	var stage, out string
	var task int
	c := &cobra.Command{
		Use: "get ID", Short: "Show a job, or with --result what it put out", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cl := a.client()
			if !result && stage == "" && out == "" && task < 0 {
				res, err := cl.Jobs.GetJob(cmd.Context(), connect.NewRequest(&wattlev1.GetJobRequest{Id: args[0]}))
				if err != nil {
					return err
				}
				return a.print(res.Msg.Job, func(w io.Writer) { printJob(w, res.Msg.Job) })
			}
			w := a.stdout
			if out != "" {
				f, err := os.Create(out)
				if err != nil {
					return err
				}
				defer f.Close()
				w = f
			}
			if err := a.result(cmd.Context(), cl, args[0], stage, task, w); err != nil {
				return done(cmd.Context(), err)
			}
			if f, ok := w.(*os.File); ok && out != "" {
				return f.Sync()
			}
			return nil
		},
	}
	f := c.Flags()
	f.BoolVar(&result, "result", false, "print the job's result")
	f.StringVar(&stage, "stage", "", "the stage whose output to print (default the last)")
	f.IntVar(&task, "task", -1, "one task's output only")
	f.StringVar(&out, "out", "", "a file to write the result to")
	return c
}

// result writes an output: bytes as they are, records as "key TAB value" lines, or as JSON objects.
func (a *app) result(ctx context.Context, cl *client.Client, id, stage string, task int, w io.Writer) error {
	return cl.Result(ctx, id, stage, task, func(h *wattlev1.ResultHeader) (io.Writer, error) {
		if h.Encoding != "records" {
			return w, nil
		}
		return client.NewRecordWriter(func(key, value []byte) error {
			if a.output == "json" {
				line := map[string]any{"key": string(key), "value": json.RawMessage(value)}
				if !json.Valid(value) {
					line["value"] = value
				}
				b, err := json.Marshal(line)
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(w, "%s\n", b)
				return err
			}
			_, err := fmt.Fprintf(w, "%s\t%s\n", printable(key), printable(value))
			return err
		}), nil
	})
}

// printable quotes what would break a line of text.
func printable(b []byte) string {
	if !utf8.Valid(b) || bytes.ContainsFunc(b, unicode.IsControl) {
		return fmt.Sprintf("%q", b)
	}
	return string(b)
}

func (a *app) jobWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Follow a job until it is over", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.watch(cmd.Context(), a.client(), args[0], true)
		},
	}
}

func (a *app) jobTasks() *cobra.Command {
	var stage string
	c := &cobra.Command{
		Use: "tasks ID", Short: "List the tasks of a stage, with their errors", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Jobs.ListTasks(cmd.Context(), connect.NewRequest(&wattlev1.ListTasksRequest{Id: args[0], Stage: stage}))
			if err != nil {
				return err
			}
			return a.print(res.Msg, func(w io.Writer) {
				table(w, "TASK\tSTATE\tATTEMPT\tNODE\tTIME\tFUEL\tMEMORY\tOUT\tERROR", func(row func(...any)) {
					for _, t := range res.Msg.Tasks {
						var last string
						if n := len(t.Errors); n > 0 {
							last = strings.Join(strings.Fields(plain(t.Errors[n-1].Message)), " ")
						}
						row(fmt.Sprintf("%s/%d", t.Stage, t.Index), stateName(t.State), t.Attempt, cmp.Or(t.Node, "-"), t.Usage.GetDuration().AsDuration().Round(time.Microsecond), t.Usage.GetFuel(),
							sizeOf(t.Usage.GetPeakMemoryBytes()), sizeOf(t.OutputBytes), last)
					}
				})
			})
		},
	}
	c.Flags().StringVar(&stage, "stage", "", "the stage (default the last)")
	return c
}

func (a *app) jobGraph() *cobra.Command {
	return &cobra.Command{
		Use: "graph ID", Short: "Draw a job's stages as a Mermaid graph", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			res, err := a.client().Jobs.GetJob(cmd.Context(), connect.NewRequest(&wattlev1.GetJobRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.print(res.Msg.Job, func(w io.Writer) {
				fmt.Fprintln(w, "graph LR")
				place := map[string]int{}
				for i, s := range res.Msg.Job.Stages {
					place[s.Name] = i
					fmt.Fprintf(w, "  s%d[\"%s<br/>%s %d/%d\"]\n", i, s.Name, stateName(s.State), s.Completed, s.Tasks)
					for _, d := range s.After {
						fmt.Fprintf(w, "  s%d --> s%d\n", place[d], i)
					}
				}
			})
		},
	}
}

func (a *app) jobDo(name, short string, do func(context.Context, string) (*wattlev1.Job, error)) *cobra.Command {
	return &cobra.Command{
		Use: name + " ID", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			job, err := do(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(job, func(w io.Writer) { fmt.Fprintf(w, "job %s: %s\n", job.Id, stateName(job.State)) })
		},
	}
}
