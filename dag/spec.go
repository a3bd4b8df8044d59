package dag

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"sigs.k8s.io/yaml"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// MaxSpec is the largest spec in bytes.
const MaxSpec = 4 << 20

// ParseSpec reads a spec as people write it, in YAML or JSON, and puts vars in the place of ${name} in its strings.
// Short forms are allowed: value: TEXT, items: [A, B], each: STAGE, reduce: STAGE, collect: STAGE and after: STAGE.
// Unknown fields and variables are errors.
func ParseSpec(text []byte, vars map[string]string) (*wattlev1.JobSpec, error) {
	bad := func(err error) error {
		return fault.New(fault.Invalid, "bad_spec", "the spec cannot be read: %w", err).
			Hint("the README shows a spec; docs/jobs.md lists every field")
	}
	if len(text) > MaxSpec {
		return nil, bad(fmt.Errorf("%d bytes; the limit is %d", len(text), MaxSpec))
	}
	var doc any
	if err := yaml.UnmarshalStrict(text, &doc); err != nil {
		return nil, bad(err)
	}
	root, ok := doc.(map[string]any)
	if !ok {
		return nil, bad(fmt.Errorf("want an object with name and stages"))
	}
	unused := map[string]bool{}
	for k := range vars {
		unused[k] = true
	}
	filled, err := substitute(root, vars, unused)
	if err != nil {
		return nil, bad(err)
	}
	if len(unused) > 0 {
		return nil, bad(fmt.Errorf("it has no ${%s}", firstKey(unused)))
	}
	root = filled.(map[string]any)
	if stages, ok := root["stages"].([]any); ok {
		for _, s := range stages {
			if m, ok := s.(map[string]any); ok {
				expand(m)
			}
		}
	}
	b, err := json.Marshal(root)
	if err != nil {
		return nil, bad(err)
	}
	spec := &wattlev1.JobSpec{}
	if err := protojson.Unmarshal(b, spec); err != nil {
		return nil, bad(fmt.Errorf("%s", cleanProtoError(err)))
	}
	return spec, nil
}

// expand turns the short forms of a stage into the long ones.
func expand(stage map[string]any) {
	wrap := func(field, inner string, is func(any) bool) {
		if v, ok := stage[field]; ok && is(v) {
			stage[field] = map[string]any{inner: v}
		}
	}
	text := func(v any) bool { _, ok := v.(string); return ok }
	list := func(v any) bool { _, ok := v.([]any); return ok }
	wrap("value", "text", text)
	wrap("items", "items", list)
	wrap("files", "dir", text)
	for _, f := range []string{"each", "reduce", "collect"} {
		wrap(f, "stage", text)
	}
	if v, ok := stage["after"]; ok && text(v) {
		stage["after"] = []any{v}
	}
}

var variable = regexp.MustCompile(`\$\{([a-zA-Z_][a-zA-Z0-9_-]*)\}`)

func substitute(v any, vars map[string]string, unused map[string]bool) (any, error) {
	switch x := v.(type) {
	case string:
		var missing string
		s := variable.ReplaceAllStringFunc(x, func(m string) string {
			name := m[2 : len(m)-1]
			val, ok := vars[name]
			if !ok {
				missing = name
			}
			delete(unused, name)
			return val
		})
		if missing != "" {
			return nil, fmt.Errorf("${%s} has no value: give one with --set %s=VALUE", missing, missing)
		}
		return s, nil
	case []any:
		for i := range x {
			r, err := substitute(x[i], vars, unused)
			if err != nil {
				return nil, err
			}
			x[i] = r
		}
	case map[string]any:
		for _, k := range sortedKeys(x) {
			r, err := substitute(x[k], vars, unused)
			if err != nil {
				return nil, err
			}
			x[k] = r
		}
	}
	return v, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func firstKey[V any](m map[string]V) string { return sortedKeys(m)[0] }

// cleanProtoError drops protojson's own prefix, which it varies on purpose, and positions in text the user never saw.
var protoPrefix = regexp.MustCompile(`^proto:\s*(\(line \d+:\d+\):\s*)?`)

func cleanProtoError(err error) string {
	return strings.TrimSpace(protoPrefix.ReplaceAllString(strings.ReplaceAll(err.Error(), "\u00a0", " "), ""))
}
