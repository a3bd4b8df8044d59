// Package plugintest builds the plugins of this repository for tests that want real guests.
//
// It needs the go command, and skips the test where there is none. Builds are kept in the user's cache directory under
// the digest of all sources they are made of, so that only changes cost time. Only tests may import it.
package plugintest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

var building sync.Mutex

// Build answers the module of plugins/<name>.
func Build(t testing.TB, name string) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is needed to build guests")
	}
	root := root(t)
	building.Lock()
	defer building.Unlock()
	key := sha256.New()
	fmt.Fprintln(key, runtime.Version(), name)
	for _, dir := range []string{"sdk-guest/go", filepath.Join("plugins", name)} {
		hash(t, filepath.Join(root, dir), func(path string, b []byte) { fmt.Fprintf(key, "%s %d\n%s", path, len(b), b) })
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "wattle-plugintest")
	file := filepath.Join(dir, hex.EncodeToString(key.Sum(nil))+".wasm")
	if wasm, err := os.ReadFile(file); err == nil {
		return wasm
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Other test processes may build the same: each writes a file of its own and puts it in place as a whole.
	out := filepath.Join(t.TempDir(), name+".wasm")
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o", out, "./plugins/"+name)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build plugin %s: %v\n%s", name, err, text)
	}
	wasm, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	place, err := os.CreateTemp(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = place.Write(wasm)
	if closed := place.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(place.Name(), file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.mod above the test's folder")
		}
		dir = up
	}
}

func hash(t testing.TB, dir string, add func(path string, b []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		add(path, b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
