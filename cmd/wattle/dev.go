package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

// devAlias points at the version that wattle dev pushed last.
const devAlias = "dev"

// devLook is how often a project is looked at. A change is built when two looks in a row see the same.
const devLook = 200 * time.Millisecond

func (a *app) dev() *cobra.Command {
	d := &devLoop{app: a, build: sdkguest.Build}
	c := &cobra.Command{
		Use: "dev [DIR]", Short: "Build, push and call a project whenever it changes",
		Long: "Build, push and call a project whenever one of its files changes, until it is interrupted. Versions are pushed to the service with " +
			"the alias \"" + devAlias + "\"; those that this run has made and replaced are removed, unless another alias points at them.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			d.given = cmd.Flags().Changed("data")
			if d.given && d.file != "" {
				return usage("give one of --data and --file")
			}
			dir, err := filepath.Abs(append(args, ".")[0])
			if err != nil {
				return err
			}
			if _, err := os.ReadDir(dir); err != nil {
				return err
			}
			d.dir = dir
			if d.service == "" {
				d.service = filepath.Base(dir)
			}
			look := time.NewTicker(devLook)
			defer look.Stop()
			return d.run(cmd.Context(), look.C)
		},
	}
	f := c.Flags()
	f.StringVar(&d.service, "service", "", "the service to publish to (default the folder's name)")
	f.StringVar(&d.function, "function", "", "the function to call (default the only one of kind call)")
	f.StringVar(&d.data, "data", "", "the input of the call")
	f.StringVar(&d.file, "file", "", "a file with the input, which is watched, too")
	return c
}

// devLoop watches a project.
type devLoop struct {
	app                  *app
	dir, service         string
	function, data, file string
	given                bool // whether data is
	build                func(ctx context.Context, dir, out string) error

	client *client.Client
	made   uint64 // the version this run made last
	told   bool   // that no node is there
}

// run looks at the project at every tick, and has at most one round at a time: a change stops the one before.
func (d *devLoop) run(ctx context.Context, ticks <-chan time.Time) error {
	out, err := os.MkdirTemp("", "wattle-dev-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(out)
	d.client = d.app.client()
	defer d.client.Close()
	d.say(devEvent{Event: "watching", Service: d.service}, "watching %s; Ctrl-C ends", d.dir)

	var built, seen stamps
	done := make(chan bool, 1) // whether the round wants to be repeated
	running, again := false, false
	stop := func() {}
	end := func() {
		stop()
		if running {
			<-done
		}
		running, again = false, false
	}
	defer func() { end() }()
	start := func(changed []string, build bool) {
		rctx, cancel := context.WithCancel(ctx)
		stop, running = cancel, true
		go func() { done <- d.round(rctx, filepath.Join(out, d.service+".wasm"), changed, build) }()
	}
	for {
		now, err := d.look()
		if err != nil {
			return err
		}
		settled := seen != nil && len(seen.changed(now)) == 0
		seen = now
		switch changed := built.changed(now); {
		case built == nil:
			built = now
			start(nil, true)
		case settled && len(changed) > 0:
			end()
			built = now
			start(changed, true)
		case again && !running:
			again = false
			start(nil, false)
		}
		select {
		case <-ctx.Done():
			return nil
		case again = <-done:
			stop()
			running = false
		case <-ticks:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
		}
	}
}

func (d *devLoop) look() (stamps, error) {
	if d.file == "" {
		return stampsOf(d.dir)
	}
	return stampsOf(d.dir, d.file)
}

// round builds unless that is done, pushes and calls. It answers whether to try again although nothing has changed: where no node was
// there.
func (d *devLoop) round(ctx context.Context, out string, changed []string, build bool) (again bool) {
	if len(changed) > 0 {
		d.say(devEvent{Event: "changed", Files: changed}, "\n%s changed", fewOf(changed))
	}
	err := d.steps(ctx, out, build)
	if ctx.Err() != nil {
		return false
	}
	var op *net.OpError
	away := err != nil && (errors.As(err, &op) || connect.CodeOf(err) == connect.CodeUnavailable)
	switch {
	case away && !d.told:
		d.app.exit(err)
		d.say(devEvent{Event: "waiting"}, "waiting for the node")
	case err != nil && !away:
		d.app.exit(err)
		d.say(devEvent{Event: "failed"}, "waiting for a change")
	}
	d.told = away
	return away
}

func (d *devLoop) steps(ctx context.Context, out string, build bool) error {
	start := time.Now()
	if build {
		if err := d.build(ctx, d.dir, out); err != nil {
			return err
		}
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		return err
	}
	took := time.Since(start)
	if build {
		d.say(devEvent{Event: "built", Size: len(wasm), Seconds: took.Seconds()}, "built %s in %s", sizeOf(uint64(len(wasm))), millis(took))
	}
	start = time.Now()
	v, created, err := d.client.Push(ctx, d.service, wasm, client.PushOptions{Aliases: []string{devAlias}})
	if err != nil {
		return err
	}
	took = time.Since(start)
	d.say(devEvent{Event: "pushed", Service: v.Service, Version: v.Number, Seconds: took.Seconds()}, "pushed %s@%d in %s", v.Service, v.Number, millis(took))
	if v.Number != d.made {
		d.forget(ctx)
		if created {
			d.made = v.Number
		}
	}
	return d.call(ctx, v)
}

// forget removes the version this run made before. One that something else needs stays.
func (d *devLoop) forget(ctx context.Context) {
	if d.made == 0 {
		return
	}
	_, err := d.client.Registry.DeleteVersion(ctx, connect.NewRequest(&wattlev1.DeleteVersionRequest{Service: d.service, Number: d.made}))
	if err != nil && !client.IsNotFound(err) && ctx.Err() == nil {
		d.say(devEvent{Event: "kept", Service: d.service, Version: d.made}, "%s@%d stays: %v", d.service, d.made, err)
	}
	d.made = 0
}

func (d *devLoop) call(ctx context.Context, v *wattlev1.Version) error {
	function := d.function
	if function == "" {
		var calls []string
		for _, f := range v.Functions {
			if f.Kind == wattlev1.FunctionKind_FUNCTION_KIND_CALL {
				calls = append(calls, f.Name)
			}
		}
		if len(calls) != 1 {
			d.say(devEvent{Event: "functions", Files: calls}, "nothing is called: name one of its functions with --function: %s", strings.Join(calls, ", "))
			return nil
		}
		function = calls[0]
	} else if !slices.ContainsFunc(v.Functions, func(f *wattlev1.Function) bool { return f.Name == function }) {
		return fmt.Errorf("%s@%d has no function %s; it has: %s", v.Service, v.Number, function, functions(v))
	}
	var payload []byte
	switch {
	case d.given:
		payload = []byte(d.data)
	case d.file != "":
		b, err := os.ReadFile(d.file)
		if err != nil {
			return err
		}
		payload = b
	}
	start := time.Now()
	res, err := d.client.Functions.Invoke(ctx, connect.NewRequest(&wattlev1.InvokeRequest{
		Service: d.service, Version: fmt.Sprint(v.Number), Function: function, Payload: payload,
	}))
	if err != nil {
		return err
	}
	took := time.Since(start)
	d.say(devEvent{Event: "called", Function: function, Seconds: took.Seconds(), Output: string(res.Msg.Payload)}, "%s answers in %s:", function, millis(took))
	if d.app.output == "text" {
		fmt.Fprintf(d.app.stdout, "%s\n", strings.TrimSuffix(plain(string(res.Msg.Payload)), "\n"))
	}
	return nil
}

// devEvent is a line of output for programs.
type devEvent struct {
	Event    string   `json:"event"`
	Files    []string `json:"files,omitempty"`
	Service  string   `json:"service,omitempty"`
	Version  uint64   `json:"version,omitempty"`
	Function string   `json:"function,omitempty"`
	Size     int      `json:"size,omitempty"`
	Seconds  float64  `json:"seconds,omitempty"`
	Output   string   `json:"output,omitempty"`
}

// say tells programs an event, and people a text.
func (d *devLoop) say(e devEvent, format string, args ...any) {
	if d.app.output != "json" {
		fmt.Fprintf(d.app.stderr, format+"\n", args...)
		return
	}
	if b, err := json.Marshal(e); err == nil {
		fmt.Fprintf(d.app.stdout, "%s\n", b)
	}
}

// millis prints a time for people.
func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
