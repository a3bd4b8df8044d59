package sim

import (
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var bugs = flag.Int("bugs", 0, "build each known bug in, and look for it in so many seeds")

// knownBugs are mistakes that a run must find: each is a change of the source that is made in an overlay, for one build.
var knownBugs = []struct {
	name, file, old, new string
}{
	{
		"acknowledge before quorum", "shard/appender.go",
		"		for i, r := range m.m.Responses {\n",
		`		if n := len(m.m.Entries); n > 0 && m.g.leadTerm.Load() == m.m.Entries[n-1].GetTerm() {
			for _, id := range m.g.members.Load().Replicas() {
				last := m.m.Entries[n-1]
				replies = append(replies, inMessage{g: m.g, m: &raftpb.Message{Type: raftpb.MsgAppResp.Enum(), From: &id, To: &m.g.replica, Term: last.Term, Index: last.Index}})
			}
		}
		for i, r := range m.m.Responses {
`,
	},
	{"acknowledge before sync", "shard/appender.go", "must(b.Commit(sync))", "must(b.Commit(false))"},
	{
		"stale read", "shard/read.go", "	g.question++\n",
		"	g.awaited = append(g.awaited, awaited{0, reads})\n	g.mu.Unlock()\n	g.wakeReads()\n	return\n	g.question++\n",
	},
	{"early trim", "shard/appender.go", "to := durable[g.id]\n", "to := g.stands.Load().index\n"},
	{"lost change of members", "shard/applier.go", "must(b.Set(membersKey(g.id), v))", "_ = v"},
	{
		"snapshot without what was seen", "shard/courier.go", "			pairs.Pairs = append(pairs.Pairs, slices.Clone(k)",
		"			if len(k) > prefixLen && k[0] == 0x02 && k[prefixLen] == 's' {\n				continue\n			}\n			pairs.Pairs = append(pairs.Pairs, slices.Clone(k)",
	},
	{
		"vote forgotten in a crash", "shard/log.go", "return sync, setProto(b, hardStateKey(l.id), h)",
		"return sync, setProto(b, hardStateKey(l.id), &raftpb.HardState{Term: h.Term, Vote: new(uint64), Commit: h.Commit})",
	},
	{"skipped fencing", "dag/transition.go", "t.Generation != generation || t.Attempt != attempt ||", "t.Generation != generation ||"},
	{"what was made of a lost output stays", "dag/transition.go", "		t.invalidate(c.Stage, c.Task)\n", "		_ = replaced\n"},
	{"a new leader forgets what was begun", "dag/machine.go", "if st.State == wattlev1.StageState_STAGE_STATE_RUNNING {", "if st.State == wattlev1.StageState_STAGE_STATE_RUNNING && st.Completed == 0 {"},
	{"a key sent twice makes another job", "dag/transition.go", "if t.job = readJob(t.tx, t.id); t.job != nil {\n		return nil", "if t.job = readJob(t.tx, t.id); false {\n		return nil"},
	{"a canceled job goes on", "dag/transition.go", "	if final(job.State) {\n		return nil, errFinal(id.Job)", "	if false {\n		return nil, errFinal(id.Job)"},
	{"a stage starts before those it comes after", "dag/transition.go", "		return t.stage(n).State != wattlev1.StageState_STAGE_STATE_COMPLETED\n", "		return t.stage(n).State < wattlev1.StageState_STAGE_STATE_RUNNING\n"},
	{"two clients have one attempt", "dag/external.go", "		r.Attempt++ // the client", "		// the client"},
	{
		"a leader that hands over says it is none", "shard/group.go",
		"			g.queue = append(taken, g.queue...)\n			g.mu.Unlock()\n", "			g.mu.Unlock()\n			reply(taken, g.errNoLeader())\n",
	},
	{"a removed replica goes before that is known for good", "shard/farewell.go", "return !f.due && f.at != 0 && f.committed >= f.at", "return true"},
	{"a retired replica comes back", "shard/loop.go", "if replica < l.e.retired(id) {", "if false {"},
	{"a snapshot is given room while another is put in", "shard/courier.go", " || p.g.staged.Load() != 0 {", " {"},
	{"a lost attempt starts again as it was", "dag/queue.go", "		s.lost[id.Index] = mark{h.Generation, h.Attempt}\n", ""},
	{"what is done already is given back", "dag/holder.go", "if x := h.held[id]; x != nil && !x.begun {", "if x := h.held[id]; x == nil || !x.begun {"},
	{"a snapshot counts before it is durable", "shard/courier.go", "	must(c.e.cfg.Store.State.Flush())\n", ""},
}

var runs = regexp.MustCompile(`seed (\d+) at`)

// TestBugs builds every known bug in and looks whether it is found. It takes a minute or more: give -bugs.
func TestBugs(t *testing.T) {
	if *bugs == 0 {
		t.Skip("takes minutes: make bugs")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range knownBugs {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel() // a run of seeds takes one processor
			file := filepath.Join(root, b.file)
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Count(string(src), b.old) != 1 {
				t.Fatalf("%s does not have %q once", b.file, b.old)
			}
			dir := t.TempDir()
			changed, overlay := filepath.Join(dir, "changed.go"), filepath.Join(dir, "overlay.json")
			j, err := json.Marshal(map[string]map[string]string{"Replace": {file: changed}})
			if err != nil {
				t.Fatal(err)
			}
			for name, content := range map[string]string{changed: strings.Replace(string(src), b.old, b.new, 1), overlay: string(j)} {
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			out, err := exec.Command("go", "test", "-vet=off", "-overlay", overlay, "-run", "TestSeeds", "-timeout", "0", ".", "-args", "-first", "-seeds", strconv.Itoa(*bugs)).CombinedOutput()
			found := runs.FindStringSubmatch(string(out))
			if err == nil || found == nil {
				t.Fatalf("not found: %s", out)
			}
			t.Logf("found: %s", strings.SplitN(string(out), "\n", 3)[1])
		})
	}
}
