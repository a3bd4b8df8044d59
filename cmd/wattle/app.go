package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"text/tabwriter"
	"unicode"
	"unicode/utf8"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/internal/fault"
)

// app is what all commands share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	addr           string
	output         string
}

// usageError says that the command line was wrong.
type usageError struct{ err error }

func (u *usageError) Error() string { return u.err.Error() }
func (u *usageError) Unwrap() error { return u.err }

func usage(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "wattle",
		Short:         "One place to run sandboxed functions and durable jobs",
		Long:          "Wattle runs WebAssembly functions as versioned services and durable jobs, on one machine or a few, with nothing beside it.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "text" && a.output != "json" {
				return usage("--output %s: want text or json", a.output)
			}
			return nil
		},
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	root.PersistentFlags().StringVar(&a.addr, "addr", "", "the node to talk to, or for up to listen at (default $WATTLE_ADDR or "+client.DefaultAddr+")")
	root.PersistentFlags().StringVar(&a.output, "output", "text", "text or json")
	root.AddCommand(a.up(), a.demo(), a.newProject(), a.build(), a.push(), a.dev(), a.service(), a.secret(), a.call(), a.job(), a.node(), a.cluster(), a.version())
	markUsage(root)
	return root
}

// markUsage makes every command tell a wrong number of arguments as what it is, and a group ask for a command.
func markUsage(c *cobra.Command) {
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				var u *usageError
				if errors.As(err, &u) {
					return err
				}
				return &usageError{err}
			}
			return nil
		}
	}
	if c.HasSubCommands() && c.RunE == nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage("unknown command %q for %q", args[0], cmd.CommandPath())
			}
			return usage("%s needs a command: %s", cmd.CommandPath(), strings.Join(names(cmd), ", "))
		}
	}
	for _, sub := range c.Commands() {
		markUsage(sub)
	}
}

func names(c *cobra.Command) (s []string) {
	for _, sub := range c.Commands() {
		s = append(s, sub.Name())
	}
	return s
}

// exit prints an error and returns the exit status.
func (a *app) exit(err error) int {
	if err == nil {
		return 0
	}
	text, hint := err.Error(), ""
	var ce *connect.Error
	if errors.As(err, &ce) {
		text, hint = strings.Replace(text, ce.Error(), ce.Message(), 1), client.Hint(err)
	}
	if f := fault.As(err); f != nil {
		hint = f.Help
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		text = "no node answers at " + a.address() + ": " + op.Err.Error()
		hint = "start one with wattle up, or say where it is with --addr"
	}
	if strings.Contains(text, "http2: client connection lost") { // net/http has no other name for it
		text = "the node at " + a.address() + " took the connection and does not answer"
		hint = "it hangs, is stopped, or is cut off: look at it, or ask another one with --addr"
	}
	var u *usageError
	isUsage := errors.As(err, &u)
	if isUsage {
		hint = cmp.Or(hint, "wattle --help shows how it is meant")
	}
	if a.output == "json" {
		out := map[string]any{"error": text, "hint": hint, "reason": reason(err)}
		if s := client.Detail(err).GetStats(); s != nil {
			out["fuel"], out["peakMemoryBytes"] = s.Fuel, s.PeakMemoryBytes
		}
		b, _ := json.Marshal(out)
		fmt.Fprintf(a.stderr, "%s\n", b)
	} else {
		fmt.Fprintln(a.stderr, "wattle:", plain(text))
		if hint != "" {
			fmt.Fprintln(a.stderr, "       ", plain(hint))
		}
	}
	if isUsage {
		return 2
	}
	return 1
}

func reason(err error) string {
	if f := fault.As(err); f != nil {
		return f.Reason
	}
	return client.Reason(err)
}

func (a *app) address() string {
	return cmp.Or(a.addr, os.Getenv("WATTLE_ADDR"), client.DefaultAddr)
}

func (a *app) client() *client.Client {
	return client.Dial(a.address(), client.WithRetries(a.stillTrying()))
}

// stillTrying tells people what is waited for, each reason once.
func (a *app) stillTrying() func(error) {
	told := map[string]bool{}
	var mu sync.Mutex
	return func(err error) {
		var ce *connect.Error
		if a.output == "json" || !errors.As(err, &ce) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if why := plain(ce.Message()); !told[why] {
			told[why] = true
			fmt.Fprintln(a.stderr, "wattle: still trying:", why)
		}
	}
}

// print writes a message as JSON, or calls text.
func (a *app) print(m proto.Message, text func(w io.Writer)) error {
	if a.output == "json" {
		b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
		if err != nil {
			return err
		}
		// protojson varies its blanks on purpose; scripts should not see that.
		var v json.RawMessage = b
		line, err := json.Marshal(v)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(a.stdout, "%s\n", line)
		return err
	}
	text(a.stdout)
	return nil
}

// table prints rows under a head, in columns.
func table(w io.Writer, head string, rows func(row func(cells ...any))) {
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, head)
	rows(func(cells ...any) {
		for i, c := range cells {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, c)
		}
		fmt.Fprintln(t)
	})
	t.Flush()
}

// isTerminal tells whether w shows what is written to a person, so that lines can be drawn over.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// input reads what --data, --file or standard input hand over.
func (a *app) input(cmd *cobra.Command, data, file string, args []string) ([]byte, error) {
	given := 0
	for _, b := range []bool{cmd.Flags().Changed("data"), file != "", len(args) > 0} {
		if b {
			given++
		}
	}
	switch {
	case given > 1:
		return nil, usage("give one of --data, --file and -")
	case cmd.Flags().Changed("data"):
		return []byte(data), nil
	case file != "":
		return os.ReadFile(file)
	case len(args) > 0 && args[0] == "-":
		return io.ReadAll(a.stdin)
	case len(args) > 0:
		return nil, usage("%q: only - may follow, which reads standard input", args[0])
	}
	return nil, nil
}

// plain makes text of others fit to be shown: a guest's message must not steer the terminal it is printed on.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, s)
}

// sizeOf prints bytes for people.
func sizeOf(n uint64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}

// done tells an interrupted command from a failed one.
func done(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return err
}
