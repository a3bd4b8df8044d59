package dag

import (
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

func TestParseSpec(t *testing.T) {
	t.Parallel()
	const text = `
# a comment
---
name: ${who}'s job
timeout: 90s
max_parallel: 8
stages:
  - {name: v, function: a/b, value: "text ${n} ${n}"}
  - {name: i, function: a/b, items: [one, "${n}"], after: v}
  - {name: f, function: a/b, files: /data, params: {k: "$HOME and $ and ${n}"}}
  - {name: g, function: a/b, files: {dir: /data, splitBytes: "${n}", header_lines: 1}}
  - {name: e, function: a/b, each: i, after: [v, f], retry: {max_attempts: 5, backoff: 0.5s}}
  - {name: r, function: a/b, reduce: {stage: f, partitions: 3}}
  - {name: c, collect: r}
`
	got, err := ParseSpec([]byte(text), map[string]string{"who": "Ada", "n": "7"})
	if err != nil {
		t.Fatal(err)
	}
	want := &wattlev1.JobSpec{}
	if err := protojson.Unmarshal([]byte(`{"name":"Ada's job","timeout":"90s","maxParallel":8,"stages":[
		{"name":"v","function":"a/b","value":{"text":"text 7 7"}},
		{"name":"i","function":"a/b","items":{"items":["one","7"]},"after":["v"]},
		{"name":"f","function":"a/b","files":{"dir":"/data"},"params":{"k":"$HOME and $ and 7"}},
		{"name":"g","function":"a/b","files":{"dir":"/data","splitBytes":7,"headerLines":1}},
		{"name":"e","function":"a/b","each":{"stage":"i"},"after":["v","f"],"retry":{"maxAttempts":5,"backoff":"0.5s"}},
		{"name":"r","function":"a/b","reduce":{"stage":"f","partitions":3}},
		{"name":"c","collect":{"stage":"r"}}]}`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// Values of variables are text: they cannot become structure.
func TestVariablesAreText(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"}, {name: x", "a\nb: c", "${other}", "'\"", "&x *x", "null", ""} {
		spec, err := ParseSpec([]byte("stages: [{name: a, value: '${v}'}]"), map[string]string{"v": value})
		if err != nil || len(spec.Stages) != 1 || spec.Stages[0].GetValue().GetText() != value {
			t.Errorf("%q: %v, %v", value, spec, err)
		}
	}
}

// What is wrong with a spec is said so that it can be found.
func TestBadSpecs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, text, hint string }{
		{"", "an object with name and stages", "docs/jobs.md"},
		{"[]", "an object with name and stages", "docs/jobs.md"},
		{"a: b: c", "mapping values", "docs/jobs.md"},
		{"\x00", "control characters", ""},
		{"name: x\n\tfoo: 1", "line 2", ""},
		{"{name: a, name: b}", `"name" already set`, ""},
		{"{name: x, bogus: 1}", `unknown field "bogus"`, "docs/jobs.md"},
		{"{stages: [{name: a, paralel: 1}]}", `stage a, paralel: unknown field`, "docs/jobs.md"},
		{"{stages: 3}", "stages: unexpected token", ""},
		{"{stages: [null]}", "stage 1 is not an object", ""},
		{"{stages: [{value: x}, {value: 3}]}", "stage 2, value", ""},
		{"{name: no}", "name: invalid value for string", "quotes"},
		{"{stages: [{name: a, items: [1]}]}", "stage a, items: invalid value for string", "quotes"},
		{"{stages: [{name: a, value: x, items: [x]}]}", "stage a: ", "one of value, items"},
		{"{timeout: 10m}", "timeout: ", "90s"},
		{"{timeout: 5}", "timeout: ", "90s"},
		{"{stages: [{name: a, retry: {backoff: soon}}]}", "stage a, retry: ", "90s"},
		{"{max_parallel: -1}", "max_parallel: ", ""},
		{"{max_parallel: 1, maxParallel: 2}", "duplicate field", ""},
		{"{name: '${x}'}", "--set x=", ""},
		{"{name: x}\n---\n{name: y}", "2 documents", "one by one"},
		{"a: &a [*a]", "contains itself", ""},
		{"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n" +
			"e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]", "excessive aliasing", ""},
		{strings.Repeat("[", 20_000), "depth", ""},
		{"{name: '" + strings.Repeat("x", MaxSpec) + "'}", "the limit is 4194304", ""},
	} {
		_, err := ParseSpec([]byte(c.spec), nil)
		e := fault.As(err)
		if e == nil || e.Kind != fault.Invalid || e.Reason != "bad_spec" || !strings.Contains(e.Message, c.text) || !strings.Contains(e.Help, c.hint) || e.Help == "" {
			t.Errorf("%.60q: %v, want %q with the hint %q", c.spec, err, c.text, c.hint)
		}
	}
	if _, err := ParseSpec([]byte("name: x"), map[string]string{"unused": "1"}); err == nil || !strings.Contains(err.Error(), "no ${unused}") {
		t.Errorf("a variable that is not there: %v", err)
	}
}

// Any text is a spec or an error with a meaning; a spec that was read can be written as JSON and read again.
func FuzzParseSpec(f *testing.F) {
	for _, s := range []string{
		"name: x\nstages:\n- {name: a, function: s/f, value: '${v}'}", `{"name":"x","stages":[{"name":"a","each":"b","after":"c"}]}`,
		"stages: [{files: /x}]", "---\na: &b c\n", "{timeout: 3s}", "stages: [{value: {data: aGk=}}]", "? - a", "${v}",
	} {
		f.Add([]byte(s), "value")
	}
	f.Fuzz(func(t *testing.T, text []byte, value string) {
		if !utf8.ValidString(value) {
			return // the command line hands over what the user typed; JSON cannot hold other bytes
		}
		var vars map[string]string
		if strings.Contains(string(text), "${v}") {
			vars = map[string]string{"v": value}
		}
		spec, err := ParseSpec(text, vars)
		if err != nil {
			if e := fault.As(err); e == nil || e.Kind != fault.Invalid || e.Help == "" || e.Message == "" {
				t.Fatalf("not an error with a meaning: %#v", err)
			}
			return
		}
		b, err := protojson.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		// A $ in what came out may begin something that looks like a variable: that is not what this is about.
		if strings.Contains(string(b), "${") {
			return
		}
		again, err := ParseSpec(b, nil)
		if err != nil || !proto.Equal(spec, again) {
			t.Fatalf("%q\nread as %v\nwritten as %s\nread again as %v, %v", text, spec, b, again, err)
		}
	})
}
