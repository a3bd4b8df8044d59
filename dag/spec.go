package dag

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
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
	bad := func(err error) *fault.Error {
		return fault.New(fault.Invalid, "bad_spec", "the spec cannot be read: %w", err).
			Hint("the README shows a spec; docs/jobs.md lists every field")
	}
	if len(text) > MaxSpec {
		return nil, bad(fmt.Errorf("%d bytes; the limit is %d", len(text), MaxSpec))
	}
	if n := documents(text); n > 1 {
		return nil, bad(fmt.Errorf("%d documents in one file", n)).Hint("submit them one by one: a spec is one job")
	}
	var doc any
	if err := yaml.UnmarshalStrict(escaped(text), &doc); err != nil {
		return nil, bad(fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")))
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
		text := locate(root, err)
		e := bad(fmt.Errorf("%s", text))
		switch {
		case strings.Contains(text, "for string"), strings.Contains(text, "unexpected token") && !strings.Contains(text, "timeout"):
			e.Hint("put it in quotes: YAML takes numbers, yes, no, on, off, y and n for something else than text")
		case strings.Contains(text, "Duration"), strings.Contains(text, "timeout"), strings.Contains(text, "retry"):
			e.Hint("write a time in seconds, such as 90s or 0.5s")
		case strings.Contains(text, "oneof"):
			e.Hint("a stage has one input: one of value, items, files, each, reduce and collect")
		}
		return nil, e
	}
	return spec, nil
}

// escaped writes control characters that JSON allows as they are, and YAML does not, with their numbers. Where text is
// not JSON it is left alone.
func escaped(text []byte) []byte {
	odd := func(r rune) bool { return r >= 0x7f && r <= 0x9f && r != 0x85 || r == 0xfffe || r == 0xffff }
	if !bytes.ContainsFunc(text, odd) || !utf8.Valid(text) || !json.Valid(text) {
		return text
	}
	var out []byte
	for _, r := range string(text) {
		if odd(r) {
			out = fmt.Appendf(out, "\\u%04x", r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

var document = regexp.MustCompile(`(?m)^---(?:\s|$)`)

// documents counts those that are more than blanks and comments: of several, the first alone would be read.
func documents(text []byte) (n int) {
	for _, d := range document.Split(string(text), -1) {
		if strings.ContainsFunc(d, func(r rune) bool { return r > ' ' }) && !onlyComments(d) {
			n++
		}
	}
	return n
}

func onlyComments(s string) bool {
	for line := range strings.Lines(s) {
		if l := strings.TrimSpace(line); l != "" && l[0] != '#' && l[0] != '%' {
			return false
		}
	}
	return true
}

// locate says in which field an error lies: the positions that protojson tells are in a text the user never saw.
func locate(root map[string]any, err error) string {
	stages, _ := root["stages"].([]any)
	for i, s := range stages {
		m, ok := s.(map[string]any)
		if !ok {
			return fmt.Sprintf("stage %d is not an object", i+1)
		}
		name, _ := m["name"].(string)
		if field, err := faulty(m, func() proto.Message { return &wattlev1.StageSpec{} }); err != nil {
			return fmt.Sprintf("stage %s, %s: %s", cmp.Or(name, strconv.Itoa(i+1)), field, cleanProtoError(err))
		}
		b, err := json.Marshal(m)
		if err == nil {
			err = protojson.Unmarshal(b, &wattlev1.StageSpec{})
		}
		if err != nil {
			return fmt.Sprintf("stage %s: %s", cmp.Or(name, strconv.Itoa(i+1)), cleanProtoError(err))
		}
	}
	if field, err := faulty(root, func() proto.Message { return &wattlev1.JobSpec{} }); err != nil {
		return field + ": " + cleanProtoError(err)
	}
	return cleanProtoError(err)
}

// faulty returns the first field that cannot be read by itself.
func faulty(m map[string]any, into func() proto.Message) (field string, err error) {
	for _, k := range sortedKeys(m) {
		b, err := json.Marshal(map[string]any{k: m[k]})
		if err == nil {
			err = protojson.Unmarshal(b, into())
		}
		if err != nil {
			return k, err
		}
	}
	return "", nil
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
var protoPrefix = regexp.MustCompile(`^proto:\s*(syntax error )?(\(line \d+:\d+\):\s*)?`)

func cleanProtoError(err error) string {
	return strings.TrimSpace(protoPrefix.ReplaceAllString(strings.ReplaceAll(err.Error(), "\u00a0", " "), ""))
}
