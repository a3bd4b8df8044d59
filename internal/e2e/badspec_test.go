package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// Specs that cannot work are refused whole, by the node, before anything of them runs.
func TestBadSpecs(t *testing.T) {
	t.Parallel()
	const invalid, notFound = connect.CodeInvalidArgument, connect.CodeNotFound
	stages := func(s ...string) string { return "{name: bad, stages: [" + strings.Join(s, ", ") + "]}" }
	const a = "{name: a, function: echo/echo, value: x}"
	const m = "{name: m, function: wordcount/map, items: [a b, c]}"
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprintf("{name: s%d, function: echo/echo, value: x}", i)
	}
	cases := []struct {
		name, spec   string
		code         connect.Code
		reason, hint string
		text         string
	}{
		{"no stages", "{name: bad}", invalid, "no_stages", "at least one stage", ""},
		{"1001 stages", stages(many...), invalid, "too_many_stages", "split", "1001"},
		{"cycle of one", stages("{name: a, function: echo/echo, each: a}"), invalid, "cycle", "", "a -> a"},
		{"cycle of three", stages(a, "{name: b, function: echo/echo, each: d}", "{name: c, function: echo/echo, each: b}", "{name: d, function: echo/echo, value: v, after: c}"), invalid, "cycle", "", "b -> d -> c -> b"},
		{"unknown stage", stages(a, "{name: b, function: echo/echo, each: c}"), invalid, "unknown_stage", "a, b", `"c"`},
		{"unknown stage after", stages("{name: b, function: echo/echo, value: x, after: nope}"), invalid, "unknown_stage", "stages are b", `"nope"`},
		{"two of a name", stages(a, a), invalid, "duplicate_stage", "its own", "a"},
		{"stage without name", stages("{function: echo/echo, value: x}"), invalid, "bad_name", "64 letters", ""},
		{"stage with odd name", stages("{name: 'a b', function: echo/echo, value: x}"), invalid, "bad_name", "64 letters", "a b"},
		{"job with odd name", `{name: "a\nb", stages: [` + a + `]}`, invalid, "bad_name", "control characters", ""},
		{"long job name", "{name: " + strings.Repeat("n", 129) + ", stages: [" + a + "]}", invalid, "bad_name", "128 bytes", ""},
		{"no function", stages("{name: a, value: x}"), invalid, "no_function", "SERVICE/FUNCTION", "stage a"},
		{"half a function", stages("{name: a, function: echo, value: x}"), invalid, "bad_ref", "SERVICE/FUNCTION", "stage a"},
		{"unknown service", stages("{name: a, function: ecko/echo, value: x}"), notFound, "unknown_service", "did you mean echo", "stage a"},
		{"unknown version", stages("{name: a, function: echo@9/echo, value: x}"), notFound, "unknown_version", "it has 1", "stage a"},
		{"unknown alias", stages("{name: a, function: echo@live/echo, value: x}"), notFound, "unknown_version", "it has 1", "stage a"},
		{"unknown function", stages("{name: a, function: echo/nope, value: x}"), notFound, "unknown_function", "it has echo", "stage a"},
		{"a value for a reduce", stages("{name: a, function: wordcount/reduce, value: x}"), invalid, "wrong_kind", "wattle service get", "kind reduce"},
		{"a reduce by a map", stages(m, "{name: r, function: wordcount/map, reduce: m}"), invalid, "wrong_kind", "", "kind map"},
		{"a reduce of a call", stages(a, "{name: r, function: wordcount/reduce, reduce: a}"), invalid, "wrong_kind", "", "kind call"},
		{"a combiner that is none", stages("{name: m, function: wordcount/map, value: x, combiner: wordcount/map}", "{name: r, function: wordcount/reduce, reduce: m}"), invalid, "wrong_kind", "", "kind combine"},
		{"an unknown combiner", stages("{name: m, function: wordcount/map, value: x, combiner: wordcount/nope}"), notFound, "unknown_function", "it has", ""},
		{"a combiner for nobody", stages("{name: m, function: wordcount/map, value: x, combiner: wordcount/sum}"), invalid, "idle_combiner", "reduce", ""},
		{"two reduces", stages(m, "{name: r, function: wordcount/reduce, reduce: m}", "{name: s, function: wordcount/reduce, reduce: m}"), invalid, "two_reduces", "once", ""},
		{"a shuffled stage read", stages(m, "{name: r, function: wordcount/reduce, reduce: m}", "{name: e, function: echo/echo, each: m}"), invalid, "shuffled", "reduce stage", ""},
		{"an external stage with a function", stages("{name: a, external: true, function: echo/echo, value: x}"), invalid, "external_function", "leave function", "stage a"},
		{"an external stage with a combiner", stages("{name: a, external: true, combiner: wordcount/sum, value: x}"), invalid, "external_function", "leave function", "stage a"},
		{"an external reduce", stages(m, "{name: a, external: true, reduce: m}"), invalid, "external_input", "each", "stage a"},
		{"an external collect", stages(a, "{name: b, external: true, collect: a}"), invalid, "external_input", "each", "stage b"},
		{"a reduce of an external stage", stages("{name: a, external: true, value: x}", "{name: r, function: wordcount/reduce, reduce: a}"), invalid, "external_reduce", "", "stage r"},
		{"a pool with an odd name", stages("{name: a, function: echo/echo, value: x, pool: 'No Pool'}"), invalid, "bad_pool", "64 of a-z", "stage a"},
		{"too many partitions", stages(m, "{name: r, function: wordcount/reduce, reduce: {stage: m, partitions: 5000}}"), invalid, "too_many_partitions", "", "5000"},
		{"no input", stages("{name: a, function: echo/echo}"), invalid, "no_input", "value, items, files", ""},
		{"no items", stages("{name: a, function: echo/echo, items: []}"), invalid, "no_items", "at least one", ""},
		{"text and data", stages("{name: a, function: echo/echo, value: {text: x, data: eA==}}"), invalid, "bad_value", "one of them", ""},
		{"negative timeout", stages("{name: a, function: echo/echo, value: x, timeout: -1s}"), invalid, "bad_timeout", "default", "-1s"},
		{"endless timeout", stages("{name: a, function: echo/echo, value: x, timeout: 9300000000s}"), invalid, "bad_timeout", "default", ""},
		{"endless job timeout", "{name: bad, timeout: 9300000000s, stages: [" + a + "]}", invalid, "bad_timeout", "default", ""},
		{"negative backoff", stages("{name: a, function: echo/echo, value: x, retry: {backoff: -1s}}"), invalid, "bad_retry", "default", ""},
		{"endless backoff", stages("{name: a, function: echo/echo, value: x, retry: {max_backoff: 9300000000s}}"), invalid, "bad_retry", "default", ""},
		{"large parameter", stages("{name: a, function: echo/echo, value: x, params: {p: " + strings.Repeat("v", 65<<10) + "}}"), invalid, "bad_params", "input", "p"},
		{"no dir", stages("{name: a, function: echo/echo, files: {glob: '*'}}"), invalid, "no_dir", "dir", ""},
	}
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushPlugin("wordcount")
		for _, c := range cases {
			_, err := n.trySubmit(t.Context(), c.spec, nil)
			refused(t, c.name, err, c.code, c.reason, c.hint)
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %q is not in %v", c.name, c.text, err)
			}
		}
		_, err := n.Jobs.SubmitJob(t.Context(), connect.NewRequest(&wattlev1.SubmitJobRequest{IdempotencyKey: "k"}))
		refused(t, "no spec", err, invalid, "no_stages", "")
		_, err = n.Jobs.SubmitJob(t.Context(), connect.NewRequest(&wattlev1.SubmitJobRequest{Spec: &wattlev1.JobSpec{}}))
		refused(t, "no key", err, invalid, "no_idempotency_key", "UUID")
		n.undisturbed(t, 0, "wordcount")
	})
}

// Jobs read what the node allows, and nothing else, whatever the path to it looks like.
func TestBadInputs(t *testing.T) {
	t.Parallel()
	const invalid, notFound, denied = connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodePermissionDenied
	root := t.TempDir()
	in, out := filepath.Join(root, "in"), filepath.Join(root, "out")
	sibling := in + "side" // begins like the allowed one
	for _, f := range []string{"in/a.txt", "in/sub/b.txt", "in/links/keep.me", "out/secret.txt", "inside/c.txt"} {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"in/links/file": out + "/secret.txt", "in/links/dir": out, "in/links/good": in + "/a.txt", "in/links/gone": root + "/nothing", "todir": in, "indir": out,
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(out, in+"/out"); err != nil {
		t.Fatal(err)
	}
	spec := "{name: files, stages: [{name: a, function: echo/echo, files: {dir: '${dir}', glob: '${glob}'}}, {name: all, collect: a}]}"
	cases := []struct {
		name, dir, glob string
		code            connect.Code
		reason, hint    string
	}{
		{"missing", in + "/nothing", "*", notFound, "unknown_dir", "check"},
		{"not allowed", out, "*", denied, "dir_not_allowed", "--allow-dir " + out},
		{"not allowed and missing", root + "/nothing", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"above", root, "*", denied, "dir_not_allowed", "--allow-dir"},
		{"root", "/", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"beside", sibling, "*", denied, "dir_not_allowed", "--allow-dir"},
		{"dots", in + "/../out", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"dots behind a folder", in + "/sub/../../out", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"link to a dir", in + "/out", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"link outside", root + "/indir", "*", denied, "dir_not_allowed", "--allow-dir"},
		{"link to a file", in + "/links", "file", denied, "dir_not_allowed", "--allow-dir"},
		{"link to nothing", in + "/links", "gone", invalid, "unreadable_input", "glob"},
		{"relative", "in", "*", invalid, "relative_dir", "whole path"},
		{"relative with dots", "../in", "*", invalid, "relative_dir", "whole path"},
		{"a file", in + "/a.txt", "*", invalid, "not_a_dir", "glob"},
		{"nothing matches", in, "*.nope", invalid, "no_files", "glob"},
		{"only a link to a dir matches", in, "out", denied, "dir_not_allowed", "--allow-dir"},
		{"bad glob", in, "[", invalid, "bad_glob", "*.go"},
		{"glob with dots", in, "../out/*", invalid, "no_files", "glob"},
		{"absolute glob", in, out + "/*", invalid, "no_files", "glob"},
		{"nul", in + "/\x00", "*", invalid, "unreadable_input", ""},
	}
	both(t, node.Config{AllowDirs: []string{in}}, func(t *testing.T, n *target) {
		n.bystander()
		for _, c := range cases {
			_, err := n.Submit(t.Context(), &wattlev1.JobSpec{Stages: []*wattlev1.StageSpec{{
				Name: "a", Function: "echo/echo", Input: &wattlev1.StageSpec_Files{Files: &wattlev1.FilesInput{Dir: c.dir, Glob: c.glob}},
			}}}, "")
			refused(t, c.name, err, c.code, c.reason, c.hint)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: tells what lies outside: %v", c.name, err)
			}
		}
		n.undisturbed(t, 0)
		// Links that lead to allowed places are as good as the places.
		for glob, want := range map[string]string{"good": "in/a.txt", "*.me": "in/links/keep.me"} {
			job := n.complete(n.submit(spec, map[string]string{"dir": root + "/todir/links", "glob": glob}).Id)
			if got := n.output(t, job.Id, "", -1); got != want {
				t.Errorf("%s: %q, want %q", glob, got, want)
			}
		}
	})
}

// A job must not compute with other files than those it was planned with.
func TestInputChanged(t *testing.T) {
	t.Parallel()
	changes := map[string]func(path string) error{
		"longer":   func(p string) error { return os.WriteFile(p, []byte("longer than before"), 0o644) },
		"touched":  func(p string) error { return os.Chtimes(p, time.Time{}, time.Unix(1, 0)) },
		"gone":     os.Remove,
		"replaced": func(p string) error { return swap(p, func() error { return os.Symlink("/etc/hostname", p) }) },
		"a dir":    func(p string) error { return swap(p, func() error { return os.Mkdir(p, 0o755) }) },
		"a pipe":   func(p string) error { return swap(p, func() error { return syscall.Mkfifo(p, 0o644) }) },
	}
	both(t, node.Config{AllowDirs: []string{os.TempDir()}, Slots: 1}, func(t *testing.T, n *target) {
		n.bystander()
		n.pushFixture("sleep")
		for how, change := range changes {
			dir := t.TempDir()
			path := filepath.Join(dir, "in.txt")
			if err := os.WriteFile(path, []byte("before"), 0o644); err != nil {
				t.Fatal(err)
			}
			release := n.hog(t)
			job := n.submit("{name: changed, stages: [{name: read, function: echo/echo, files: "+dir+"}]}", nil)
			if err := change(path); err != nil {
				t.Fatal(err)
			}
			release()
			job = n.wait(job.Id)
			reason := "input_changed"
			if how == "replaced" {
				reason = "dir_not_allowed" // by a link that leads out
			}
			if job.State != wattlev1.JobState_JOB_STATE_FAILED || job.Error.Reason != reason || job.Error.Stage != "read" || job.Error.Attempt != 1 {
				t.Errorf("%s: %v, %v", how, job.State, job.Error)
			}
		}
		n.undisturbed(t, 2*len(changes), "sleep")
	})
}

// swap puts something else in the place of a file.
func swap(path string, put func() error) error {
	if err := os.Remove(path); err != nil {
		return err
	}
	return put()
}
