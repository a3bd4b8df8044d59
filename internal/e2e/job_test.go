package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

const wordcountSpec = `
name: wordcount
stages:
  - name: count
    function: wordcount/map
    combiner: wordcount/sum
    files: {dir: "${dir}", glob: "*.go", split_bytes: "${split}"}
  - name: total
    function: wordcount/reduce
    reduce: {stage: count, partitions: 3}
`

// goFiles returns a folder of real text: part of the standard library's source.
func goFiles(part string) string { return filepath.Join(goroot(), "src", part) }

var goroot = sync.OnceValue(func() string {
	b, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(b))
})

// countWords is the reference: it shares no code with the engine or the plugin, and goes about it another way.
func countWords(t testing.TB, dir string) map[string]int {
	t.Helper()
	counts := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, w := range bytes.FieldsFunc(b, func(r rune) bool { return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z') }) {
			counts[strings.ToLower(string(w))]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return counts
}

func (n *target) submit(spec string, vars map[string]string) *wattlev1.Job {
	n.t.Helper()
	s, err := dag.ParseSpec([]byte(spec), vars)
	if err != nil {
		n.t.Fatal(err)
	}
	job, err := n.Submit(n.t.Context(), s, "")
	if err != nil {
		n.t.Fatal(err)
	}
	return job
}

func (n *target) wait(id string) *wattlev1.Job {
	n.t.Helper()
	job, err := n.Watch(n.t.Context(), id, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return job
}

func (n *target) complete(id string) *wattlev1.Job {
	n.t.Helper()
	job := n.wait(id)
	if job.State != wattlev1.JobState_JOB_STATE_COMPLETED {
		n.t.Fatalf("job %s: %v: %v", id, job.State, job.Error)
	}
	return job
}

// counts reads a stage's records as numbers.
func (n *target) counts(id, stage string) map[string]int {
	n.t.Helper()
	got, err := n.tryCounts(id, stage)
	if err != nil {
		n.t.Fatal(err)
	}
	return got
}

func (n *target) tryCounts(id, stage string) (map[string]int, error) {
	got := map[string]int{}
	return got, n.Records(n.t.Context(), id, stage, func(k, v []byte) error {
		c, err := strconv.Atoi(string(v))
		if _, twice := got[string(k)]; twice {
			return fmt.Errorf("key %q came twice", k)
		}
		got[string(k)] = c
		return err
	})
}

func sameCounts(t testing.TB, got, want map[string]int) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d words, want %d", len(got), len(want))
	}
	wrong := 0
	for w, c := range want {
		if got[w] != c {
			if wrong++; wrong < 5 {
				t.Errorf("%s: %d, want %d", w, got[w], c)
			}
		}
	}
}

// A word count over real files is exact, whether its shuffle fits into memory or not.
func TestWordCount(t *testing.T) {
	t.Parallel()
	dir, split := goFiles("net"), "1000000"
	if testing.Short() {
		dir, split = goFiles("net/netip"), "50000"
	}
	want := countWords(t, dir)
	for name, bytes := range map[string]int64{"memory": 0, "spilling": 64 << 10} {
		t.Run(name, func(t *testing.T) {
			both(t, node.Config{AllowDirs: []string{dir}, ShuffleBytes: bytes}, func(t *testing.T, n *target) {
				n.pushPlugin("wordcount")
				job := n.complete(n.submit(wordcountSpec, map[string]string{"dir": dir, "split": split}).Id)
				sameCounts(t, n.counts(job.Id, "total"), want)
				if tasks := job.Stages[0].Tasks; tasks < 3 {
					t.Errorf("%d map tasks: nothing was split", tasks)
				}
				if spills := n.metric("wattle_shuffle_spills_total"); (spills > 0) != (bytes > 0) {
					t.Errorf("%v spills", spills)
				}
			})
		})
	}
}

var csvRows = flag.Int("csv.rows", 60_000, "rows of the CSV files that are added up")

// A file that is cut into byte ranges loses and doubles no line, wherever the cuts fall.
func TestCSVTotals(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	want := map[string]int64{}
	regions := []string{"north", "south", "far, east", "wes\"t"}
	rng := rand.New(rand.NewPCG(1, 2))
	for f := range 3 {
		var b strings.Builder
		b.WriteString("id,region,amount\n")
		for i := range *csvRows / 3 {
			r := regions[rng.IntN(len(regions))]
			cents := rng.Int64N(2_000_000) - 1_000_000
			want[r] += cents
			fmt.Fprintf(&b, "%d,\"%s\",%d.%02d\n", i, strings.ReplaceAll(r, `"`, `""`), cents/100, abs(cents)%100)
			if cents < 0 && cents > -100 {
				want[r] -= 2 * cents // printed without its sign: "0.05"
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.csv", f)), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	both(t, node.Config{AllowDirs: []string{dir}}, func(t *testing.T, n *target) {
		n.pushPlugin("csvtotal")
		job := n.complete(n.submit(`
name: totals
stages:
  - name: read
    function: csvtotal/map
    combiner: csvtotal/sum
    files: {dir: "${dir}", glob: "*.csv", header_lines: 1, split_bytes: "${split}"}
    params: {sum: amount, by: region}
  - name: total
    function: csvtotal/reduce
    reduce: read
`, map[string]string{"dir": dir, "split": fmt.Sprint(max(*csvRows/6, 997))}).Id)
		got := map[string]string{}
		err := n.Records(t.Context(), job.Id, "", func(k, v []byte) error { got[string(k)] = string(v); return nil })
		if err != nil {
			t.Fatal(err)
		}
		for r, cents := range want {
			w := fmt.Sprintf("%d.%02d", cents/100, abs(cents)%100)
			if got[r] != w {
				t.Errorf("%s: %s, want %s", r, got[r], w)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d regions, want %d", len(got), len(want))
		}
	})
}

func abs(n int64) int64 { return max(n, -n) }
