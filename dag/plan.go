package dag

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// Bounds of a plan.
const (
	MaxStages     = 1000
	MaxTasks      = 1_000_000 // in one stage
	MaxPartitions = 4096
	MaxTime       = 365 * 24 * time.Hour // of timeouts and backoffs
)

// Resolver finds functions. ref is SERVICE[@VERSION|@ALIAS]/FUNCTION.
type Resolver interface {
	ResolveFunction(ref string) (*storev1.PlanFunction, error)
}

// Files lists the input files a node allows jobs to read.
type Files interface {
	// List returns the regular files below dir whose names match glob, by name. It refuses what lies outside the
	// allowed directories once links are resolved.
	List(ctx context.Context, dir, glob string) ([]File, error)
}

// File is one input file.
type File struct {
	// Path is absolute, with links resolved; Name is relative to the directory listed.
	Path, Name string
	Size       int64
	Modified   time.Time
}

// Planner checks specs. Its fields must be set; it may be used concurrently.
type Planner struct {
	Resolver Resolver
	Files    Files
	Blobs    Putter
	// Partitions is how many a reduce gets that does not say.
	Partitions func() uint32
	// Node is the one that plans: it has the files.
	Node string
}

var stageName = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?$`)

func invalid(reason, format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, reason, format, args...)
}

// Plan checks a spec and returns what is to be done, stages in an order in which each comes after those it reads.
// Errors are of kind Invalid, NotFound or Denied and name the stage.
func (p *Planner) Plan(ctx context.Context, spec *wattlev1.JobSpec) (*storev1.Plan, error) {
	if len(spec.GetStages()) == 0 {
		return nil, invalid("no_stages", "the spec has no stages").Hint("a job needs at least one stage with a function")
	}
	if len(spec.Stages) > MaxStages {
		return nil, invalid("too_many_stages", "%d stages: the limit is %d", len(spec.Stages), MaxStages).Hint("split the job")
	}
	if len(spec.Name) > 128 || !utf8.ValidString(spec.Name) || strings.ContainsFunc(spec.Name, unicode.IsControl) {
		return nil, invalid("bad_name", "%.160q cannot be the name of a job", spec.Name).
			Hint("use up to 128 bytes of text without line ends and other control characters")
	}
	order, err := sortStages(spec.Stages)
	if err != nil {
		return nil, err
	}
	b := &planning{Planner: p, at: map[string]uint32{}, specs: order}
	for i, s := range order {
		b.at[s.Name] = uint32(i)
	}
	plan := &storev1.Plan{Name: spec.Name, MaxParallel: spec.MaxParallel}
	if plan.Timeout, err = span("bad_timeout", "the job's timeout", spec.Timeout); err != nil {
		return nil, err
	}
	b.plan = plan
	for _, s := range order {
		ps, err := b.stage(ctx, s)
		if err != nil {
			return nil, inStage(s.Name, err)
		}
		plan.Stages = append(plan.Stages, ps)
	}
	if err := b.shuffles(); err != nil {
		return nil, err
	}
	for i, s := range plan.Stages {
		s.Result = !slices.ContainsFunc(plan.Stages, func(o *storev1.PlanStage) bool { return reads(o, uint32(i)) })
	}
	return plan, nil
}

// span checks a length of time. Much longer ones could not be added to a time any more.
func span(reason, what string, d *durationpb.Duration) (int64, error) {
	if t := d.AsDuration(); t < 0 || t > MaxTime {
		return 0, invalid(reason, "%s is %s: want 0 to %s", what, t, MaxTime).Hint("leave it out for the default")
	}
	return int64(d.AsDuration()), nil
}

// inStage says which stage an error is about, keeping its kind.
func inStage(stage string, err error) error {
	e := fault.As(err)
	if e == nil {
		return fmt.Errorf("stage %s: %w", stage, err)
	}
	c := *e
	c.Message = fmt.Sprintf("stage %s: %s", stage, e.Message)
	c.Fields = maps.Clone(e.Fields)
	return c.With("stage", stage)
}

// inputStage returns the stage whose outputs s reads, or "".
func inputStage(s *wattlev1.StageSpec) string {
	switch in := s.Input.(type) {
	case *wattlev1.StageSpec_Each:
		return in.Each.GetStage()
	case *wattlev1.StageSpec_Reduce:
		return in.Reduce.GetStage()
	case *wattlev1.StageSpec_Collect:
		return in.Collect.GetStage()
	}
	return ""
}

func dependencies(s *wattlev1.StageSpec) []string {
	d := slices.Clone(s.After)
	if from := inputStage(s); from != "" && !slices.Contains(d, from) {
		d = append(d, from)
	}
	return d
}

// reads tells whether a stage takes the outputs of the stage at a place.
func reads(s *storev1.PlanStage, place uint32) bool {
	switch s.Input {
	case storev1.InputKind_INPUT_KIND_EACH, storev1.InputKind_INPUT_KIND_REDUCE, storev1.InputKind_INPUT_KIND_COLLECT:
		return s.From == place
	}
	return false
}

// sortStages checks the graph and returns it in an order of its dependencies, otherwise as it was written.
func sortStages(stages []*wattlev1.StageSpec) ([]*wattlev1.StageSpec, error) {
	byName := map[string]*wattlev1.StageSpec{}
	for _, s := range stages {
		if !stageName.MatchString(s.GetName()) {
			return nil, invalid("bad_name", "%.80q is no name for a stage", s.GetName()).
				Hint("use up to 64 letters, digits, '.', '_' and '-', beginning and ending with a letter or digit")
		}
		if byName[s.Name] != nil {
			return nil, invalid("duplicate_stage", "two stages are named %s", s.Name).Hint("give each stage a name of its own")
		}
		byName[s.Name] = s
	}
	for _, s := range stages {
		for _, d := range dependencies(s) {
			if byName[d] == nil {
				return nil, invalid("unknown_stage", "stage %s needs stage %q, which the spec does not have", s.Name, d).
					Hint("the stages are %s", strings.Join(sortedKeys(byName), ", "))
			}
		}
	}
	var order []*wattlev1.StageSpec
	done := map[string]bool{}
	for len(order) < len(stages) {
		i := slices.IndexFunc(stages, func(s *wattlev1.StageSpec) bool {
			return !done[s.Name] && !slices.ContainsFunc(dependencies(s), func(d string) bool { return !done[d] })
		})
		if i < 0 {
			return nil, invalid("cycle", "the stages wait for each other: %s", findCycle(byName, done)).
				Hint("a stage can only read stages that do not need it")
		}
		done[stages[i].Name] = true
		order = append(order, stages[i])
	}
	return order, nil
}

// findCycle follows dependencies among the unsorted stages until one comes back.
func findCycle(byName map[string]*wattlev1.StageSpec, done map[string]bool) string {
	var path []string
	var at string
	for _, n := range sortedKeys(byName) {
		if !done[n] {
			at = n
			break
		}
	}
	for !slices.Contains(path, at) {
		path = append(path, at)
		deps := dependencies(byName[at])
		at = deps[slices.IndexFunc(deps, func(d string) bool { return !done[d] })]
	}
	path = append(path[slices.Index(path, at):], at)
	return strings.Join(path, " -> ")
}

// planning is one Plan call at work.
type planning struct {
	*Planner
	specs []*wattlev1.StageSpec
	at    map[string]uint32
	plan  *storev1.Plan
}

func (b *planning) stage(ctx context.Context, s *wattlev1.StageSpec) (*storev1.PlanStage, error) {
	ps := &storev1.PlanStage{Name: s.Name, MaxParallel: s.MaxParallel, Params: s.Params, Pool: s.Pool, External: s.External}
	var err error
	if s.Pool != "" {
		if err := CheckPool(s.Pool); err != nil {
			return nil, err
		}
	}
	if ps.Timeout, err = span("bad_timeout", "the timeout", s.Timeout); err != nil {
		return nil, err
	}
	for k, v := range s.Params {
		if !utf8.ValidString(k) || !utf8.ValidString(v) || len(k)+len(v) > 64<<10 {
			return nil, invalid("bad_params", "parameter %.40q is not UTF-8 or longer than 64 KiB", k).Hint("hand large values over as input")
		}
	}
	for _, d := range dependencies(s) {
		ps.After = append(ps.After, b.at[d])
	}
	slices.Sort(ps.After)
	if from := inputStage(s); from != "" {
		ps.From = b.at[from]
	}
	if ps.Retry, err = retry(s.Retry); err != nil {
		return nil, err
	}
	if s.External && (s.Function != "" || s.Combiner != "") {
		return nil, invalid("external_function", "it is external, and names a function").
			Hint("clients run the tasks of an external stage: leave function and combiner out, or external")
	}
	if s.Function != "" {
		if ps.Function, err = b.Resolver.ResolveFunction(s.Function); err != nil {
			return nil, err
		}
	}
	if s.Combiner != "" {
		if ps.Combiner, err = b.Resolver.ResolveFunction(s.Combiner); err != nil {
			return nil, err
		}
		if ps.Combiner.Kind != wattlev1.FunctionKind_FUNCTION_KIND_COMBINE {
			return nil, wrongKind(s.Combiner, ps.Combiner.Kind, "a combiner has kind combine")
		}
	}
	return ps, b.input(ctx, s, ps)
}

func retry(r *wattlev1.RetryPolicy) (p *storev1.Retry, err error) {
	p = &storev1.Retry{MaxAttempts: r.GetMaxAttempts(), Traps: r.GetRetryTraps()}
	if p.Backoff, err = span("bad_retry", "the backoff", r.GetBackoff()); err != nil {
		return nil, err
	}
	if p.MaxBackoff, err = span("bad_retry", "the longest backoff", r.GetMaxBackoff()); err != nil {
		return nil, err
	}
	if p.MaxAttempts == 0 {
		p.MaxAttempts = 3
	}
	if r.GetBackoff() == nil {
		p.Backoff = int64(time.Second)
	}
	if r.GetMaxBackoff() == nil {
		p.MaxBackoff = int64(time.Minute)
	}
	return p, nil
}

func wrongKind(ref string, kind wattlev1.FunctionKind, want string) *fault.Error {
	return invalid("wrong_kind", "%s has kind %s: %s", ref, KindName(kind), want).Hint("wattle service get shows the kinds of a service's functions")
}

// KindName returns the word for a kind of function: call, map, reduce or combine.
func KindName(k wattlev1.FunctionKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "FUNCTION_KIND_"))
}

// shuffles marks the stages whose records a reduce takes.
func (b *planning) shuffles() error {
	for i, s := range b.plan.Stages {
		if s.Input == storev1.InputKind_INPUT_KIND_REDUCE {
			from := b.plan.Stages[s.From]
			if from.External {
				return inStage(s.Name, invalid("external_reduce", "stage %s is external, and puts out bytes: a reduce takes the records of a map or reduce", from.Name).
					Hint("let a stage with a map function read it (each), and reduce that"))
			}
			if k := from.Function.GetKind(); k != wattlev1.FunctionKind_FUNCTION_KIND_MAP && k != wattlev1.FunctionKind_FUNCTION_KIND_REDUCE {
				return inStage(s.Name, wrongKind(b.specs[s.From].Function, k, "a reduce takes the records of a map or reduce"))
			}
			if from.Partitions != 0 {
				return inStage(s.Name, invalid("two_reduces", "stage %s is reduced by another stage already", from.Name).
					Hint("reduce it once, and let both stages read that"))
			}
			from.Partitions = s.Tasks
		}
		for j, o := range b.plan.Stages {
			if reads(o, uint32(i)) && o.Input != storev1.InputKind_INPUT_KIND_REDUCE && slices.ContainsFunc(b.plan.Stages, func(r *storev1.PlanStage) bool {
				return r.Input == storev1.InputKind_INPUT_KIND_REDUCE && r.From == uint32(i)
			}) {
				return inStage(b.plan.Stages[j].Name, invalid("shuffled", "the records of stage %s are shuffled for a reduce", s.Name).
					Hint("read the reduce stage instead"))
			}
		}
	}
	for i, s := range b.plan.Stages {
		if s.Combiner != nil && s.Partitions == 0 {
			return inStage(b.specs[i].Name, invalid("idle_combiner", "no reduce takes what the combiner makes").
				Hint("name the combiner on the stage that a reduce reads"))
		}
	}
	return nil
}

// FunctionName prints a pinned function: SERVICE@NUMBER/FUNCTION.
func FunctionName(f *storev1.PlanFunction) string {
	return fmt.Sprintf("%s@%d/%s", f.Service, f.Number, f.Function)
}
