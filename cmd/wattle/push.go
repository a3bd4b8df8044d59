package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	sdkguest "github.com/wattlehq/wattle/sdk-guest"
)

func (a *app) push() *cobra.Command {
	var service string
	var o client.PushOptions
	var memory, outputBytes, logBytes, fuel, stack uint64
	var concurrency uint32
	var grants grantFlags
	var timeout time.Duration
	c := &cobra.Command{
		Use: "push FILE --service NAME", Short: "Publish a module as a version of a service",
		Long: "Publish a .wasm module, or a JavaScript file, of which a module is made, as a version of a service. " + sizesHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if service == "" {
				return usage("say which service: --service NAME")
			}
			if timeout < 0 {
				return usage("--timeout %s: want more than 0", timeout)
			}
			read := os.ReadFile
			if sdkguest.IsScript(args[0]) {
				read = sdkguest.BuildScript
			}
			wasm, err := read(args[0])
			if err != nil {
				return err
			}
			if o.Capabilities, err = grants.capabilities(); err != nil {
				return err
			}
			if memory > 0 || outputBytes > 0 || logBytes > 0 || timeout > 0 || fuel > 0 || stack > 0 || concurrency > 0 {
				o.Limits = &wattlev1.Limits{MemoryBytes: memory, OutputBytes: outputBytes, LogBytes: logBytes, Fuel: fuel, StackBytes: stack, Concurrency: concurrency}
				if timeout > 0 {
					o.Limits.Timeout = durationpb.New(timeout)
				}
			}
			p := a.progress("upload")
			o.Progress = p.bytes
			v, created, err := a.client().Push(cmd.Context(), service, wasm, o)
			p.done()
			if err != nil {
				return done(cmd.Context(), err)
			}
			return a.print(&wattlev1.CreateVersionResponse{Version: v, Created: created}, func(w io.Writer) {
				verb := "pushed"
				if !created {
					verb = "was there:"
				}
				fmt.Fprintf(w, "%s %s@%d (%s, %s)\n", verb, v.Service, v.Number, v.Abi, sizeOf(v.Size))
				for _, f := range v.Functions {
					fmt.Fprintf(w, "  %s/%s  %s\n", v.Service, f.Name, plain(f.Description))
				}
				printLeftOut(w, v)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&service, "service", "", "the service to publish to; made if it does not exist")
	f.Uint64Var(&o.Version, "version", 0, "the version's number (default the next free one)")
	f.StringArrayVar(&o.Aliases, "alias", nil, "an alias to point at the version; may be repeated")
	sizeVar(f, &memory, "memory", "limit of a call's memory")
	f.DurationVar(&timeout, "timeout", 0, "limit of a call's time")
	sizeVar(f, &outputBytes, "output-bytes", "limit of a call's output")
	sizeVar(f, &logBytes, "log-bytes", "limit of a call's log")
	f.Uint64Var(&fuel, "fuel", 0, "limit of what a call computes, in instructions or so")
	sizeVar(f, &stack, "stack-bytes", "limit of a call's call stack")
	f.Uint32Var(&concurrency, "concurrency", 0, "limit of how many calls of a function run at a time on a node")
	f.BoolVar(&o.Fresh, "fresh", false, "run each call in an instance made for it, in which the module's start runs first")
	grants.register(f)
	return c
}
