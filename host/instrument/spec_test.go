package instrument_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/wattlehq/wattle/host/instrument"
)

var rewriteGolden = flag.Bool("rewrite", false, "write testdata/spec.golden anew")

// specSuites are the folders of the standard's test suite that wazero's module carries.
var specSuites = []struct {
	name     string
	features api.CoreFeatures
}{
	{"v1", api.CoreFeaturesV1},
	{"v2", api.CoreFeaturesV2},
	{"extended-const", api.CoreFeaturesV2 | experimental.CoreFeaturesExtendedConst},
	{"tail-call", api.CoreFeaturesV2 | experimental.CoreFeaturesTailCall},
	{"threads", api.CoreFeaturesV2 | experimental.CoreFeaturesThreads},
	{"typed-function-references", api.CoreFeaturesV2 | experimental.CoreFeaturesTypedFunctionReferences |
		experimental.CoreFeaturesTailCall},
	{"exception-handling", api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling |
		experimental.CoreFeaturesTailCall | experimental.CoreFeaturesTypedFunctionReferences},
}

// specTotals counts commands of one suite.
type specTotals struct {
	commands, plain, rewritten, skipped int
	skips                               map[string]int
	differences                         []string
}

// TestSpec runs the standard's tests as they are and through the rewriter. What comes out differently, and what is
// left out, is listed in testdata/spec.golden; -rewrite writes it anew.
func TestSpec(t *testing.T) {
	t.Parallel()
	root := filepath.Join(wazeroDir(t), "internal", "integration_test", "spectest")
	host, err := os.ReadFile(filepath.Join(root, "testdata", "spectest.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	all := map[string]*specTotals{}
	t.Run("suite", func(t *testing.T) {
		for _, suite := range specSuites {
			totals := &specTotals{skips: map[string]int{}}
			all[suite.name] = totals
			files, err := filepath.Glob(filepath.Join(root, suite.name, "testdata", "*.json"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no tests of %s: %v", suite.name, err)
			}
			for i, file := range files {
				if testing.Short() && i%8 != 0 {
					continue
				}
				t.Run(suite.name+"/"+filepath.Base(file), func(t *testing.T) {
					t.Parallel()
					script := readScript(t, file)
					plain := runScript(t, script, suite.features, host, nil)
					rewritten := runScript(t, script, suite.features, host, func(wasm []byte) ([]byte, error) {
						m, err := instrument.Rewrite(wasm, instrument.Options{Features: instrument.Features(suite.features)})
						if err == nil {
							if err := instrument.Verify(m); err != nil {
								t.Errorf("%s: %v", script.Source, err)
							}
						}
						return m.Wasm, err
					})
					mu.Lock()
					defer mu.Unlock()
					totals.add(script, plain, rewritten)
				})
			}
		}
	})
	if !t.Failed() && !testing.Short() {
		compareGolden(t, specReport(all))
	}
}

func (s *specTotals) add(script *specScript, plain, rewritten []string) {
	for i, c := range script.Commands {
		s.commands++
		if reason, skipped := strings.CutPrefix(plain[i], "skip: "); skipped {
			s.skipped++
			s.skips[reason]++
			continue
		}
		if plain[i] == "ok" {
			s.plain++
		}
		if rewritten[i] == "ok" {
			s.rewritten++
		}
		if plain[i] != rewritten[i] {
			s.differences = append(s.differences, fmt.Sprintf("%s:%d %s\n    plain:     %s\n    rewritten: %s",
				filepath.Base(script.Source), c.Line, c.Type, plain[i], rewritten[i]))
		} else if plain[i] != "ok" {
			s.differences = append(s.differences, fmt.Sprintf("%s:%d %s\n    both:      %s",
				filepath.Base(script.Source), c.Line, c.Type, plain[i]))
		}
	}
}

func specReport(all map[string]*specTotals) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %9s %9s %9s %9s\n", "suite", "commands", "plain", "rewritten", "skipped")
	sum := specTotals{}
	line := func(name string, s *specTotals) {
		fmt.Fprintf(&b, "%-26s %9d %9d %9d %9d\n", name, s.commands, s.plain, s.rewritten, s.skipped)
	}
	for _, suite := range specSuites {
		s := all[suite.name]
		line(suite.name, s)
		sum.commands += s.commands
		sum.plain += s.plain
		sum.rewritten += s.rewritten
		sum.skipped += s.skipped
	}
	line("all", &sum)
	for _, suite := range specSuites {
		s := all[suite.name]
		for _, reason := range slices.Sorted(maps.Keys(s.skips)) {
			fmt.Fprintf(&b, "\n%s: %d skipped: %s\n", suite.name, s.skips[reason], reason)
		}
		slices.Sort(s.differences)
		for _, d := range s.differences {
			fmt.Fprintf(&b, "\n%s: %s\n", suite.name, d)
		}
	}
	return b.String()
}

func compareGolden(t *testing.T, got string) {
	t.Helper()
	const file = "testdata/spec.golden"
	table, _, _ := strings.Cut(got, "\n\n")
	t.Log("\n" + table)
	if *rewriteGolden {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s says something else; run with -rewrite and look at the difference. Got:\n%s", file, got)
	}
}

// wazeroDir is where the go command has put wazero's source. Its tests are there, too.
func wazeroDir(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/tetratelabs/wazero").Output()
	if err != nil {
		t.Skipf("the go command is needed to find wazero's tests: %v", err)
	}
	return string(bytes.TrimSpace(out))
}

func readScript(t *testing.T, file string) *specScript {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &specScript{dir: filepath.Dir(file)}
	if err := json.Unmarshal(raw, s); err != nil {
		t.Fatal(err)
	}
	return s
}
