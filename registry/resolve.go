package registry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/samber/lo"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// pick finds the version of s that a Ref means.
func pick(s *wattlev1.Service, version string) (*wattlev1.Version, error) {
	if version == "" {
		if n, ok := s.Aliases[DefaultAlias]; ok {
			return numbered(s, n, version)
		}
		if len(s.Versions) == 0 {
			return nil, unknownVersion(s, version)
		}
		return s.Versions[len(s.Versions)-1], nil
	}
	if n, ok := s.Aliases[version]; ok {
		return numbered(s, n, version)
	}
	version, err := parseVersion(version)
	if err != nil {
		return nil, err
	}
	if n, err := strconv.ParseUint(version, 10, 64); err == nil {
		return numbered(s, n, version)
	}
	// Two versions may have the same bytes and other limits: the newer one counts.
	for _, v := range slices.Backward(s.Versions) {
		if v.Digest == version {
			return v, nil
		}
	}
	return nil, unknownVersion(s, version)
}

func numbered(s *wattlev1.Service, n uint64, asked string) (*wattlev1.Version, error) {
	if i, ok := byNumber(s, n); ok {
		return s.Versions[i], nil
	}
	return nil, unknownVersion(s, asked)
}

// checkFunction fails when v has no such function.
func checkFunction(v *wattlev1.Version, name string) error {
	if slices.ContainsFunc(v.Functions, func(f *wattlev1.Function) bool { return f.Name == name }) {
		return nil
	}
	names := lo.Map(v.Functions, func(f *wattlev1.Function, _ int) string { return f.Name })
	e := fault.New(fault.NotFound, "unknown_function", "%s@%d has no function %.140q", v.Service, v.Number, name).
		With("service", v.Service).With("version", v.Number).With("function", name)
	if len(names) == 0 {
		return e.Hint("it has none")
	}
	return e.Hint("it has %s", listed(names))
}

// LimitsFor returns the limits of one function of a version: each its own where it is set, otherwise the version's,
// otherwise zero. The message is the caller's.
func LimitsFor(v *wattlev1.Version, function string) *wattlev1.Limits {
	own, all := v.GetFunctionLimits()[function], v.GetLimits()
	l := &wattlev1.Limits{
		MemoryBytes: lo.CoalesceOrEmpty(own.GetMemoryBytes(), all.GetMemoryBytes()),
		Timeout:     lo.CoalesceOrEmpty(own.GetTimeout(), all.GetTimeout()),
		OutputBytes: lo.CoalesceOrEmpty(own.GetOutputBytes(), all.GetOutputBytes()),
		LogBytes:    lo.CoalesceOrEmpty(own.GetLogBytes(), all.GetLogBytes()),
		Fuel:        lo.CoalesceOrEmpty(own.GetFuel(), all.GetFuel()),
		StackBytes:  lo.CoalesceOrEmpty(own.GetStackBytes(), all.GetStackBytes()),
		Concurrency: lo.CoalesceOrEmpty(own.GetConcurrency(), all.GetConcurrency()),
	}
	if own.GetTimeout() != nil && own.GetTimeout().AsDuration() == 0 {
		l.Timeout = all.GetTimeout()
	}
	return l
}

func unknownService(name, close string) *fault.Error {
	e := fault.New(fault.NotFound, "unknown_service", "there is no service %.80q", name).With("service", name)
	if close != "" {
		return e.Hint("did you mean %s? wattle service ls lists all", close)
	}
	return e.Hint("wattle service ls lists all")
}

func unknownVersion(s *wattlev1.Service, version any) *fault.Error {
	e := fault.New(fault.NotFound, "unknown_version", "%s has no version %v", s.Name, version)
	if version == "" {
		e = fault.New(fault.NotFound, "unknown_version", "%s has no versions", s.Name)
	}
	e.With("service", s.Name).With("version", version)
	if len(s.Versions) == 0 {
		return e.Hint("publish one with wattle push")
	}
	numbers := lo.Map(s.Versions, func(v *wattlev1.Version, _ int) string { return strconv.FormatUint(v.Number, 10) })
	slices.Reverse(numbers)
	help := "it has " + listed(numbers)
	if len(s.Aliases) > 0 {
		help += "; aliases " + listed(slices.Sorted(maps.Keys(s.Aliases)))
	}
	return e.Hint("%s", help)
}

// listed prints a few names.
func listed(names []string) string {
	const most = 12
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// closest returns the name that is most like the one asked for, or "" when none is.
func closest(name string, names []string) string {
	best, bestAt := "", 1+min(2, len(name)/3)
	for _, n := range names {
		if d := distance(name, n); d < bestAt || d == bestAt && best != "" && n < best {
			best, bestAt = n, d
		}
	}
	return best
}

// distance counts the letters to add, drop, change or swap with their neighbour to make a into b.
func distance(a, b string) int {
	if len(a) > MaxName || len(b) > MaxName {
		return MaxName
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
