// Package lint holds tests about the source itself: which package may import which, and how large files get.
package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/wattlehq/wattle"

// layers puts every package on a level; imports go to the same folder or down. A longer prefix wins.
var layers = map[string]int{
	"gen": 0, "internal": 0, "testdata": 0,
	"internal/plugintest": 5, "internal/e2e": 6, "internal/chaos": 6, "internal/lint": 6, "internal/sim": 5,
	"store": 1, "host": 1, "cluster": 1,
	"shard": 2, "worker": 2, "transfer": 2,
	"registry": 3, "dag": 3, "secret": 3, "member": 3,
	"node/grants": 4, "node/jobs": 4, "node/services": 4, "node/rpc": 4, "node/secrets": 4, "node/peers": 4, "node/controller": 4, "client": 4, "sdk-guest": 4,
	"node": 5, "plugins": 5,
	"cmd": 6,
}

// sideways are the imports within a layer that are wanted.
var sideways = map[string][]string{
	"node/services":   {"node/jobs", "node/rpc", "node/grants", "node/peers"}, // publishing and calling, as the API wants it
	"node/jobs":       {"node/grants"},
	"node/peers":      {"client"}, // the API is what a new node knows of a cluster
	"store/blob":      {"store"},
	"store/memory":    {"store"},
	"shard/link":      {"shard"},
	"shard/directory": {"shard"},
	"dag/shuffle":     {"store"},
}

// only says what some packages may import at most, beside the standard library and each other.
var only = map[string][]string{
	"client":          {"gen", "connectrpc.com", "google.golang.org/protobuf"},
	"sdk-guest/go":    {"sdk-guest/go"},
	"plugins":         {"plugins", "sdk-guest/go"},
	"dag":             {"dag", "gen", "internal", "store", "google.golang.org/protobuf", "sigs.k8s.io/yaml", "github.com/samber/lo"},
	"registry":        {"registry", "gen", "internal", "google.golang.org/protobuf", "github.com/samber/lo"},
	"secret":          {"secret", "gen", "internal", "google.golang.org/protobuf"},
	"member":          {"member", "gen", "internal", "google.golang.org/protobuf"},
	"worker":          {"worker", "internal"},
	"node/controller": {"cluster", "internal", "shard"}, // without a network, so that a simulator can have it
}

// sole names who may import what the house keeps in one place.
var sole = map[string][]string{
	"github.com/cockroachdb/pebble": {"store"},
	"github.com/tetratelabs/wazero": {"host"},
	"go.etcd.io/raft":               {"shard"},
	"github.com/hashicorp":          {"cluster"},
	"connectrpc.com":                {"gen", "node/rpc", "node/peers", "client", "cmd"},
	"github.com/spf13/cobra":        {"cmd"},
	"net/http":                      {"gen", "node", "client"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	var all []pkg
	// Twice, since the SDK has a side for guests and one for tests.
	for _, env := range [][]string{nil, {"GOOS=wasip1", "GOARCH=wasm"}} {
		patterns := []string{module + "/..."}
		if env != nil {
			patterns = []string{module + "/sdk-guest/go/...", module + "/plugins/..."}
		}
		cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports"}, patterns...)...)
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(bytes.NewReader(out))
		for {
			var p pkg
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			all = append(all, p)
		}
	}
	return all
}

func within(path, folder string) bool { return path == folder || strings.HasPrefix(path, folder+"/") }

func layer(path string) (folder string, level int, ok bool) {
	for f, l := range layers {
		if within(path, f) && len(f) > len(folder) {
			folder, level, ok = f, l, true
		}
	}
	return
}

func TestLayers(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		from := strings.TrimPrefix(p.ImportPath, module+"/")
		folder, level, ok := layer(from)
		if !ok {
			t.Errorf("%s has no place in the layers", from)
			continue
		}
		for _, imp := range p.Imports {
			for lib, who := range sole {
				if within(imp, lib) && !anyWithin(from, who) {
					t.Errorf("%s imports %s, which only %v may", from, imp, who)
				}
			}
			to, own := strings.CutPrefix(imp, module+"/")
			if own {
				f, l, _ := layer(to)
				if l > level || l == level && level != 0 && f != folder && !anyWithin(to, sideways[folder]) && !anyWithin(to, sideways[from]) {
					t.Errorf("%s (layer %d) imports %s (layer %d)", from, level, to, l)
				}
			}
			for who, what := range only {
				standard := !own && !strings.Contains(strings.Split(imp, "/")[0], ".")
				if within(from, who) && !standard && !anyWithin(to, what) && !anyWithin(imp, what) {
					t.Errorf("%s imports %s; it may only import %v", from, imp, what)
				}
			}
		}
	}
}

func anyWithin(path string, folders []string) bool {
	for _, f := range folders {
		if within(path, f) {
			return true
		}
	}
	return false
}

// Files stay small enough to be read at once.
func TestFileSizes(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "gen" || strings.HasPrefix(d.Name(), ".") && d.Name() != "." && d.Name() != "..") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		info, err := d.Info()
		if err == nil && info.Size() > 25<<10 {
			t.Errorf("%s has %d bytes: which second noun hides in it?", path, info.Size())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
