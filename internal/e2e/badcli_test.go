package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

// Every failure of the command line says what failed and what to do, on stderr alone, with the status scripts can tell apart: 1 for what
// failed, 2 for what was typed wrong.
func TestBadCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	text, good := file("text.wasm", "(module)"), file("good.wasm", string(testdata.Wasm("noop")))
	cycle := file("cycle.yaml", "stages: [{name: a, function: echo/echo, each: a}]")
	typo := file("typo.yaml", "stages: [{name: a, functoin: echo/echo}]")
	vars := file("vars.yaml", "stages: [{name: a, function: echo/echo, value: '${v}'}]")
	fails := file("fails.yaml", "{name: f, stages: [{name: a, function: fail/failperm, value: x}]}")
	unknown := strings.Repeat("0", 26)
	n := inProcess(t, node.Config{})
	n.bystander()
	n.push("fail", testdata.Wasm("failperm"), client.PushOptions{})
	cases := []struct {
		args   string
		status int
		text   string // on stderr
		reason string // with --output json
	}{
		{"nonsense", 2, `unknown command "nonsense"`, ""},
		{"--nonsense", 2, "unknown flag", ""},
		{"--output xml version", 2, "want text or json", ""},
		{"job", 2, "needs a command", ""},
		{"job nonsense", 2, `unknown command "nonsense"`, ""},
		{"job get", 2, "accepts 1 arg", ""},
		{"job get a b", 2, "accepts 1 arg", ""},
		{"job get --limit x", 2, "unknown flag", ""},
		{"job ls --limit many", 2, "invalid argument", ""},
		{"job get nonsense", 1, "not the ID of a job", "bad_job_id"},
		{"job get " + unknown, 1, "wattle job ls", "unknown_job"},
		{"job watch " + unknown, 1, "there is no job", "unknown_job"},
		{"job tasks " + unknown, 1, "there is no job", "unknown_job"},
		{"job graph " + unknown, 1, "there is no job", "unknown_job"},
		{"job work", 2, "requires at least 1 arg", ""},
		{"job work -- no-such-command-anywhere", 2, "executable file not found", ""},
		{"job work --max 0 -- true", 2, "want 1 to 1000", ""},
		{"job work --lease 1ms -- true", 2, "want 1s to 1h", ""},
		{"job work --pool No -- true", 1, "64 of a-z", "bad_pool"},
		{"up --pool NO", 1, "64 of a-z", "bad_pool"},
		{"up --pool a --pool a", 1, "given twice", "bad_config"},
		{"job cancel " + unknown, 1, "there is no job", "unknown_job"},
		{"job rm " + unknown, 1, "there is no job", "unknown_job"},
		{"job get " + unknown + " --result", 1, "there is no job", "unknown_job"},
		{"job run " + dir + "/missing.yaml", 1, "no such file", ""},
		{"job run " + cycle, 1, "a -> a", "cycle"},
		{"job run " + typo, 1, "functoin", "bad_spec"},
		{"job run " + vars, 1, "--set v=", "bad_spec"},
		{"job run " + vars + " --set v", 2, "NAME=VALUE", ""},
		{"job run " + vars + " --set v=1 --set w=2", 1, "${w}", "bad_spec"},
		{"job run -", 1, "an object with name and stages", "bad_spec"},
		{"job run " + fails, 1, "no such lake", ""},
		{"push", 2, "accepts 1 arg", ""},
		{"push " + good, 2, "--service", ""},
		{"push " + dir + "/missing.wasm --service x", 1, "no such file", ""},
		{"push " + dir + " --service x", 1, "is a directory", ""},
		{"push " + text + " --service x", 1, "must be assembled", "not_wasm"},
		{"push " + good + " --service X", 1, "use 1 to 64", "bad_service"},
		{"push " + good + " --service echo --version 1", 1, "leave the number out", "version_exists"},
		{"push " + good + " --service x --timeout -5s", 2, "--timeout", ""},
		{"call echo", 2, "SERVICE/FUNCTION", ""},
		{"call echo/echo x", 2, "standard input", ""},
		{"call echo/echo - --data x", 2, "one of", ""},
		{"call echo/echo --timeout -5s", 2, "--timeout", ""},
		{"call echo/echo --timeout soon", 2, "invalid argument", ""},
		{"call ecko/echo", 1, "did you mean echo?", "unknown_service"},
		{"call fail/failperm", 1, "no such lake", "function_error"},
		{"service get nobody", 1, "wattle service ls", "unknown_service"},
		{"service rm nobody", 1, "there is no service", "unknown_service"},
		{"service rm echo@one", 2, "no version number", ""},
		{"service rm echo@9", 1, "it has 1", "unknown_version"},
		{"service alias echo live", 2, "which version", ""},
		{"service alias echo live 9", 1, "it has 1", "unknown_version"},
		{"service alias echo live --rm", 1, "no alias", "unknown_alias"},
		{"up --log-level loud", 2, "debug, info, warn or error", ""},
		{"up --data " + dir + "/d --addr 0.0.0.0:0", 1, "--insecure", "insecure"},
		{"up --data " + dir + "/d --addr 127.0.0.1", 1, "HOST:PORT", "bad_addr"},
		{"up --data " + dir + "/d --addr 127.0.0.1:0 --allow-dir " + dir + "/missing", 1, "a directory that exists", "bad_allow_dir"},
		{"up --data " + dir + "/d --addr 127.0.0.1:0 --allow-dir " + text, 1, "is not a directory", "bad_allow_dir"},
		{"up --data " + dir + "/d --addr 127.0.0.1:0 --allow-origin shop", 1, "https://example.org", "bad_origin"},
		{"up --data " + text + " --addr 127.0.0.1:0", 1, text, "bad_data_dir"},
		{"up --data " + dir + "/d --addr " + n.addr, 1, "choose one with --addr", "addr_in_use"},
		{"up --data " + dir + "/taken --addr 127.0.0.1:0 --gossip-addr " + n.addr, 1, "choose one with --gossip-addr", "addr_in_use"},
		{"node drain nobody", 1, "wattle node ls", "unknown_node"},
		{"node drain n-", 1, "the last to keep replicas", "last_node"},
		{"node leave", 1, "--join", "last_node"},
		{"node remove nobody", 1, "wattle node ls", "unknown_node"},
		{"node remove n-", 1, "the one you ask", "node_alive"},
		{"up --data " + dir + "/d --addr 127.0.0.1:0 --worker", 1, "--join", "worker_alone"},
		{"--addr 127.0.0.1:1 node ping", 1, "wattle up", ""},
		{"new", 2, "accepts 1 arg", ""},
		{"build " + dir + "/missing", 1, "wattle new", "no_project"},
	}
	for _, c := range cases {
		out, errOut, status := n.wattle("", strings.Fields(c.args)...)
		if status != c.status || !strings.Contains(errOut, c.text) || !strings.HasPrefix(errOut, "wattle: ") && !strings.Contains(errOut, "\nwattle: ") {
			t.Errorf("%s: status %d, want %d with %q: %s", c.args, status, c.status, c.text, errOut)
		}
		if out != "" && !strings.HasPrefix(c.args, "job run "+fails) {
			t.Errorf("%s: prints %q although it failed", c.args, out)
		}
		clean(t, c.args, errOut)
		if strings.Contains(c.args, "--output") {
			continue
		}
		_, errOut, status = n.wattle("", append([]string{"--output", "json"}, strings.Fields(c.args)...)...)
		var e struct{ Error, Hint, Reason string }
		if err := json.Unmarshal([]byte(errOut), &e); err != nil || status != c.status || e.Error == "" || e.Reason != c.reason || !strings.Contains(e.Error+e.Hint, c.text) {
			t.Errorf("%s as JSON: status %d, want %d, %s with %q: %s", c.args, status, c.status, c.reason, c.text, errOut)
		}
	}
	n.undisturbed(t, 2, "fail")
}

// What the command line shows of jobs and services is what there is.
func TestJobCommands(t *testing.T) {
	t.Parallel()
	both(t, node.Config{}, func(t *testing.T, n *target) {
		n.pushPlugin("wordcount")
		n.pushFixture("echo")
		run := func(args ...string) string {
			out, errOut, status := n.wattle("", args...)
			if status != 0 {
				t.Errorf("wattle %v: status %d: %s", args, status, errOut)
			}
			return out
		}
		spec := filepath.Join(t.TempDir(), "spec.yaml")
		err := os.WriteFile(spec, []byte(`
name: ${who} job
stages:
  - {name: count, function: wordcount/map, items: [b a, b]}
  - {name: total, function: wordcount/reduce, reduce: {stage: count, partitions: 1}}
  - {name: last, function: echo/echo, value: done, after: total}
`), 0o644)
		if err != nil {
			t.Fatal(err)
		}
		out := run("job", "run", spec, "--set", "who=my", "--key", "k")
		if !strings.Contains(out, "my job: completed in ") || !strings.Contains(out, "wordcount@1/reduce") {
			t.Errorf("job run: %s", out)
		}
		id := strings.Fields(out)[1]
		if got := strings.TrimSpace(run("job", "run", spec, "--set", "who=other", "--key", "k", "--detach")); got != id {
			t.Errorf("the same key: %s, want %s", got, id)
		}
		for args, want := range map[string]string{
			"job get " + id:                             "last   echo@1/echo",
			"job get " + id + " --result":               "done",
			"job get " + id + " --stage total":          "a\t1\nb\t2\n",
			"job get " + id + " --stage total --task 0": "a\t1\nb\t2\n",
			"job get " + id + " --stage last":           "done",
			"job watch " + id:                           "completed in",
			"job ls":                                    id + "  my job  completed",
			"job ls --limit 1":                          id,
			"job tasks " + id + " --stage count":        "count/1  completed  1 ",
			"job tasks " + id:                           "last/0  completed  1 ",
			"job graph " + id:                           "graph LR\n  s0[\"count<br/>completed 2/2\"]\n  s1[\"total<br/>completed 1/1\"]\n  s0 --> s1\n  s2[\"last<br/>completed 1/1\"]\n  s1 --> s2\n",
			"service ls":                                "wordcount  1",
			"service get wordcount":                     "combine  sum",
			"node ping":                                 "answered in",
			"node ls":                                   "alive",
			"--output json job get " + id:               `"state":"JOB_STATE_COMPLETED"`,
			"--output json job ls":                      `"name":"my job"`,
			"--output json job watch " + id:             `"state":"JOB_STATE_COMPLETED"`,
			"--output json job graph " + id:             `"after":["count"]`,
			"--output json job tasks " + id:             `"state":"TASK_STATE_COMPLETED"`,
			"--output json job get --stage total " + id: `{"key":"b","value":2}`,
			"--output json service get wordcount":       `"FUNCTION_KIND_COMBINE"`,
			"--output json call echo/echo --data aha":   `"payload":"YWhh"`,
			"--output json job pause " + id + " --help": "Start no further tasks",
			"--output json node ls":                     `"ready":true`,
			"--output json service alias echo now 1":    `"now":"1"`,
			"job cancel " + id:                          "completed",
		} {
			out := run(strings.Fields(args)...)
			if !strings.Contains(out, want) {
				t.Errorf("wattle %s: %q is not in:\n%s", args, want, out)
			}
			if strings.HasPrefix(args, "--output json") && !strings.Contains(args, "--help") && !json.Valid([]byte(strings.ReplaceAll(out, "}\n{", "},{"))) && !strings.Contains(args, "--stage") {
				t.Errorf("wattle %s: no JSON: %s", args, out)
			}
		}
		run("job", "rm", id)
		if _, err := n.pause(t, id); client.Reason(err) != "unknown_job" {
			t.Errorf("after rm: %v", err)
		}
		if out := run("service", "alias", "echo", "live", "1"); out != "echo@live is version 1\n" {
			t.Errorf("service alias: %s", out)
		}
		run("service", "alias", "echo", "live", "--rm")
		// A service that lost all its versions is still shown.
		run("service", "alias", "echo", "now", "--rm")
		run("service", "rm", "echo@1")
		if out := run("service", "ls"); !strings.Contains(out, "echo") || !strings.Contains(out, "wordcount") {
			t.Errorf("service ls: %s", out)
		}
		run("service", "rm", "echo")
		if out := run("service", "ls"); strings.Contains(out, "echo") {
			t.Errorf("service ls: %s", out)
		}
		// What a guest says must not steer the terminal or break the table.
		n.pushFixture("failescape")
		job := n.wait(n.submit("{name: f, stages: [{name: a, function: failescape/failescape, value: x}]}", nil).Id)
		_, errOut, _ := n.wattle("", "call", "failescape/failescape")
		for what, text := range map[string]string{"call": errOut, "get": run("job", "get", job.Id), "tasks": run("job", "tasks", job.Id)} {
			if strings.ContainsAny(text, "\x1b\r\a") || !strings.Contains(text, "red") {
				t.Errorf("%s: %q", what, text)
			}
		}
		if lines := strings.Count(run("job", "tasks", job.Id), "\n"); lines != 2 {
			t.Errorf("%d lines for one task", lines)
		}
	})
}
