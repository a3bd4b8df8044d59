// Command bench runs Wattle beside what it is to be measured against, in turn and in one run, and prints medians and ratios.
//
//	go -C bench run . NAME [--output json] [--rounds N] [--write]
//
// NAME is sandbox, invoke, hostile, mainjob, durable, placement, replication, cluster or all; all also writes RESULTS.md, and
// --write puts one section anew there. It is a module of its own, so that what stands beside Wattle
// never becomes a dependency of those who use it.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

// Row is one figure: Wattle's median beside the other's.
type Row struct {
	Bench  string  `json:"bench"`
	Case   string  `json:"case"`
	Metric string  `json:"metric"`
	Unit   string  `json:"unit"`
	Wattle float64 `json:"wattle"`
	Beside string  `json:"beside"`
	Other  float64 `json:"other"`
	// Ratio is wattle / other, whatever is better.
	Ratio float64 `json:"ratio"`
}

// Bench is one comparison.
type Bench struct {
	Name string
	// About says what is measured, how durable each side is, and how to repeat it.
	About string
	Run   func(ctx context.Context, rounds int) ([]Row, error)
}

var benches = []Bench{sandboxBench, invokeBench, hostileBench, mainjobBench, durableBench, placementBench, replicationBench, clusterBench}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(stderr)
	output := f.String("output", "text", "text or json")
	rounds := f.Int("rounds", 5, "how often each side runs; medians are printed")
	write := f.Bool("write", false, "put the section anew in RESULTS.md")
	f.StringVar(&placementSVG, "svg", "", "a file in which placement draws its plot")
	names := []string{"all"}
	for _, b := range benches {
		names = append(names, b.Name)
	}
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return errors.New("say which: " + strings.Join(names, ", "))
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	name := args[0]
	if !slices.Contains(names, name) {
		return fmt.Errorf("there is no %q: want one of %s", name, strings.Join(names, ", "))
	}
	head := fmt.Sprintf("# Results\n\nWritten by `make bench`. Machine: %s. %s.\nMedians of %d rounds, sides in turn. The ratio is Wattle over the other.\n", machine(), versions(), *rounds)
	var sections []string
	for _, b := range benches {
		if name != "all" && name != b.Name {
			continue
		}
		fmt.Fprintf(stderr, "%s: %s\n%s; %s\n", b.Name, b.About, machine(), versions())
		rows, err := b.Run(ctx, *rounds)
		if err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
		var section strings.Builder
		fmt.Fprintf(&section, "\n## %s\n\n%s\n\n| case | metric | unit | wattle | beside | other | ratio |\n|---|---|---|---|---|---|---|\n", b.Name, b.About)
		for _, r := range rows {
			fmt.Fprintf(&section, "| %s | %s | %s | %.4g | %s | %.4g | %.3g |\n", r.Case, r.Metric, r.Unit, r.Wattle, r.Beside, r.Other, r.Ratio)
		}
		sections = append(sections, section.String())
		if err := show(stdout, rows, *output); err != nil {
			return err
		}
	}
	switch {
	case name == "all":
		return os.WriteFile(results, []byte(head+strings.Join(sections, "")), 0o644)
	case *write:
		return replace(name, sections[0])
	}
	return nil
}

const results = "RESULTS.md"

// replace puts a section in the place of the one of that name, or at the end.
func replace(name, section string) error {
	all, err := os.ReadFile(results)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(all), "\n## "+name+"\n")
	if _, after, more := strings.Cut(rest, "\n## "); found && more {
		section += "\n## " + after
	}
	return os.WriteFile(results, []byte(before+section), 0o644)
}

func show(w io.Writer, rows []Row, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		for _, r := range rows {
			if err := e.Encode(r); err != nil {
				return err
			}
		}
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "BENCH\tCASE\tMETRIC\tUNIT\tWATTLE\tBESIDE\tOTHER\tRATIO")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%.4g\t%s\t%.4g\t%.3g\n", r.Bench, r.Case, r.Metric, r.Unit, r.Wattle, r.Beside, r.Other, r.Ratio)
	}
	return t.Flush()
}

func machine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	return fmt.Sprintf("%d x %s, %s", runtime.NumCPU(), model, runtime.GOOS)
}

// median of the rounds.
func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

// sample is what one side gave in one round, by metric.
type sample map[string]float64

// compare runs both sides in turn and makes rows of their medians. The order alternates, so that neither always goes first.
func compare(ctx context.Context, bench, name, beside string, rounds int, metrics [][2]string, ours, theirs func(context.Context) (sample, error)) ([]Row, error) {
	var got [2][]sample
	for r := range rounds {
		for i := range 2 {
			side := (i + r) % 2
			s, err := []func(context.Context) (sample, error){ours, theirs}[side](ctx)
			if err != nil {
				return nil, err
			}
			got[side] = append(got[side], s)
		}
	}
	var rows []Row
	for _, m := range metrics {
		of := func(side int) float64 {
			var v []float64
			for _, s := range got[side] {
				v = append(v, s[m[0]])
			}
			return median(v)
		}
		w, o := of(0), of(1)
		rows = append(rows, Row{Bench: bench, Case: name, Metric: m[0], Unit: m[1], Wattle: w, Beside: beside, Other: o, Ratio: w / o})
	}
	return rows, nil
}
