package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/client"
)

func (a *app) jobWork() *cobra.Command {
	var o client.WorkOptions
	c := &cobra.Command{
		Use: "work -- COMMAND [ARGUMENT...]", Short: "Run the tasks of external stages with a command", Args: cobra.MinimumNArgs(1),
		Long: "Run COMMAND for each task of external stages, until interrupted: then what runs is finished first. A second interrupt ends at once, and others " +
			"get the tasks when their leases end. COMMAND gets the task's input on standard input, and what it writes to standard output is the task's output. " +
			"WATTLE_JOB, WATTLE_STAGE, WATTLE_TASK, WATTLE_ATTEMPT and, as JSON, WATTLE_PARAMS say which task it is. An exit status that is not 0 is a failure, with the " +
			"last line of standard error as its message. A command whose task counts no more is stopped.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Parallel < 1 || o.Parallel > 1000 {
				return usage("--max %d: want 1 to 1000", o.Parallel)
			}
			if o.Lease < time.Second || o.Lease > time.Hour {
				return usage("--lease %s: want 1s to 1h", o.Lease)
			}
			path, err := exec.LookPath(args[0])
			if err != nil {
				return usage("%s cannot be run: %v", args[0], errors.Unwrap(err))
			}
			if o.Name == "" {
				host, _ := os.Hostname()
				o.Name = fmt.Sprintf("%.48s-%d", host, os.Getpid())
			}
			var mu sync.Mutex
			o.Ended = func(t *client.ExternalTask, err error) {
				mu.Lock()
				defer mu.Unlock()
				a.told(t, err)
			}
			stderr := &lines{w: a.stderr}
			return a.client().Work(cmd.Context(), o, func(ctx context.Context, t *client.ExternalTask) ([]byte, error) {
				return runCommand(ctx, t, path, args, stderr)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.Pool, "pool", "", "run tasks of this worker pool, beside those of none")
	f.IntVar(&o.Parallel, "max", 1, "tasks that run at once")
	f.DurationVar(&o.Lease, "lease", 30*time.Second, "how long a task is kept for this client when it is silent")
	f.StringVar(&o.Name, "name", "", "what this client is called where tasks are listed (default the machine's name and the process)")
	return c
}

// told says how an attempt ended.
func (a *app) told(t *client.ExternalTask, err error) {
	if a.output == "json" {
		line := map[string]any{"job": t.Job, "stage": t.Stage, "task": t.Task, "attempt": t.Attempt}
		if err != nil {
			line["error"] = err.Error()
		}
		b, _ := json.Marshal(line)
		fmt.Fprintf(a.stdout, "%s\n", b)
		return
	}
	how := "finished"
	if err != nil {
		how = plain(err.Error())
	}
	fmt.Fprintf(a.stderr, "job %s, %s/%d, attempt %d: %s\n", t.Job, t.Stage, t.Task, t.Attempt, how)
}

// stopTime is how long a command may take to end that was told to.
const stopTime = 5 * time.Second

func runCommand(ctx context.Context, t *client.ExternalTask, path string, args []string, stderr io.Writer) ([]byte, error) {
	params, err := json.Marshal(t.Params)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Args[0] = args[0]
	cmd.Env = append(os.Environ(), "WATTLE_JOB="+t.Job, "WATTLE_STAGE="+t.Stage, fmt.Sprint("WATTLE_TASK=", t.Task), fmt.Sprint("WATTLE_ATTEMPT=", t.Attempt), "WATTLE_PARAMS="+string(params))
	in := &input{r: t.Input}
	out, last := &output{}, &lastLine{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, io.MultiWriter(stderr, last)
	cmd.WaitDelay = stopTime
	alone(cmd)
	err = cmd.Run()
	var status *exec.ExitError
	switch {
	case in.err != nil:
		return nil, fmt.Errorf("the input cannot be read: %w", in.err)
	case out.full:
		return nil, client.Permanent(fmt.Errorf("the command put out more than %d bytes", client.MaxTaskOutput))
	case errors.As(err, &status) && len(last.text()) > 0:
		return nil, errors.New(last.text())
	case err != nil:
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return out.Bytes(), nil
}

// input keeps what went wrong with it: a command that does not read all of it is no error.
type input struct {
	r   io.Reader
	err error
}

func (i *input) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if err != nil && err != io.EOF {
		i.err = err
	}
	return n, err
}

// output keeps what a task may put out. More ends the command.
type output struct {
	bytes.Buffer
	full bool
}

func (o *output) Write(p []byte) (int, error) {
	if o.full = o.full || o.Len()+len(p) > client.MaxTaskOutput; o.full {
		return 0, io.ErrShortWrite
	}
	return o.Buffer.Write(p)
}

// lastLine keeps the end of what is written.
type lastLine struct{ end []byte }

func (l *lastLine) Write(p []byte) (int, error) {
	const most = 4 << 10
	l.end = append(l.end, p[max(0, len(p)-most):]...)
	l.end = l.end[max(0, len(l.end)-most):]
	return len(p), nil
}

func (l *lastLine) text() string {
	s := strings.TrimSpace(string(l.end))
	return strings.ToValidUTF8(s[strings.LastIndexByte(s, '\n')+1:], "\uFFFD")
}

// lines lets several commands write to one place.
type lines struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
