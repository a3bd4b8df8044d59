package host

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/fault"
)

// filesGuest is a WASI command that does one thing to its files: its input is the verb and its arguments.
const filesGuest = `package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

func main() {
	b, _ := io.ReadAll(os.Stdin)
	a := strings.Split(string(b), " ")
	out, err := run(a[0], a[1], strings.Join(a[2:], " "))
	if err != nil {
		out = "error: " + err.Error()
	}
	fmt.Print(out)
}

func run(verb, path, arg string) (string, error) {
	switch verb {
	case "read":
		b, err := os.ReadFile(path)
		return string(b), err
	case "write":
		return "ok", os.WriteFile(path, []byte(arg), 0o644)
	case "append":
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return "", err
		}
		fmt.Fprint(f, arg)
		fmt.Fprint(f, arg)
		return "ok", f.Close()
	case "at":
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		if _, err := f.WriteAt([]byte(arg), 2); err != nil {
			return "", err
		}
		b := make([]byte, 3)
		_, err = f.ReadAt(b, 1)
		return string(b), err
	case "truncate":
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return "", err
		}
		return "ok", f.Truncate(1 << 40)
	case "flood":
		f, err := os.Create(path)
		if err != nil {
			return "", err
		}
		for {
			if _, err := f.Write(make([]byte, 1<<16)); err != nil {
				return "", err
			}
		}
	case "ls":
		entries, err := os.ReadDir(path)
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " "), err
	case "stat":
		st, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		return fmt.Sprint(st.Size(), " ", st.IsDir(), " ", st.ModTime().Unix()), nil
	case "touch":
		return "ok", os.Chtimes(path, time.Unix(1, 0), time.Unix(2, 0))
	case "mkdir":
		return "ok", os.Mkdir(path, 0o755)
	case "rm":
		return "ok", os.Remove(path)
	case "mv":
		return "ok", os.Rename(path, arg)
	case "link":
		return "ok", os.Symlink(path, arg)
	case "many":
		var n int
		var kept []*os.File
		for ; n < 100000; n++ {
			f, err := os.Open(path)
			if err != nil {
				return fmt.Sprint(n), nil
			}
			kept = append(kept, f)
		}
		return fmt.Sprint(n, len(kept)), nil
	}
	return "", fmt.Errorf("unknown verb %s", verb)
}
`

func TestFiles(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	for name, text := range map[string]string{"main.go": filesGuest, "go.mod": "module files\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", "files.wasm", ".")
	build.Dir = src
	build.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	wasm, err := os.ReadFile(filepath.Join(src, "files.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, newHost(t, Config{}), wasm)

	dir := t.TempDir()
	outside := filepath.Join(dir, "outside")
	for _, name := range []string{"in/sub", "outside"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{"in/a.txt": "hello", "in/sub/b.txt": "below", "outside/secret": "not for guests"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"good": "a.txt", "bad": "../outside/secret", "worse": outside} {
		if err := os.Symlink(to, filepath.Join(dir, "in", link)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(filepath.Join(dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	call := func(write bool, in string) (string, error) {
		var out bytes.Buffer
		_, err := m.Call(t.Context(), &Call{
			Function: "main", Input: BytesInput([]byte(in)), Output: &out, Limits: Limits{Output: 1 << 20},
			Mounts: []Mount{{Path: "/data", Root: root, Write: write}},
		})
		return out.String(), err
	}
	cases := []struct{ in, read, write string }{ // what a guest gets that may only read, then what one that may write
		{"read /data/a.txt", "hello", "hello"},
		{"read /data/sub/b.txt", "below", "below"},
		{"read /data/good", "hello", "hello"},
		{"read /data/bad", "error", "error"},
		{"read /data/worse/secret", "error", "error"},
		{"read /data/../outside/secret", "error", "error"},
		{"read /outside/secret", "error", "error"},
		{"read /data/none", "No such file", "No such file"},
		{"read /data/sub", "error", "error"},
		{"ls /data", "a.txt bad good sub worse", "a.txt bad good sub worse"},
		{"ls /data/a.txt", "error", "error"},
		{"stat /data/a.txt", "5 false", "5 false"},
		{"stat /data/sub", "true", "true"},
		{"many /data/a.txt", "12", "12"}, // of 128, some of which the guest's own runtime has
		{"write /data/new one", "Read-only file system", "ok"},
		{"read /data/new", "No such file", "one"},
		{"append /data/new +", "Read-only file system", "ok"},
		{"read /data/new", "No such file", "one++"},
		{"at /data/new XY", "Read-only file system", "nXY"},
		{"read /data/new", "No such file", "onXY+"},
		{"touch /data/new", "error", "ok"},
		{"stat /data/new", "No such file", "5 false 2"},
		{"write /data/a.txt", "Read-only file system", "ok"},
		{"write /data/bad x", "error", "error"},
		{"write /data/worse/x x", "error", "error"},
		{"mkdir /data/dir", "Read-only file system", "ok"},
		{"mv /data/new /data/dir/moved", "error", "ok"},
		{"ls /data/dir", "error", "moved"},
		{"rm /data/dir", "error", "not empty"},
		{"rm /data/dir/moved", "error", "ok"},
		{"rm /data/dir", "error", "ok"},
		{"rm /data/sub/b.txt", "Read-only file system", "ok"},
		{"link /data/a.txt /data/l", "error", "error"},
	}
	for _, write := range []bool{false, true} {
		for _, c := range cases {
			want := c.read
			if write {
				want = c.write
			}
			if got, err := call(write, c.in); err != nil || !strings.Contains(got, want) {
				t.Errorf("%s (write: %v): %q, %v, want %q", c.in, write, got, err, want)
			}
		}
	}
	_, err = call(true, "flood /data/flood")
	wantFault(t, err, fault.Limit, "output_limit", "1048576")
	_, err = call(true, "truncate /data/flood")
	wantFault(t, err, fault.Limit, "output_limit", "1048576")
	if b, err := os.ReadFile(filepath.Join(outside, "secret")); string(b) != "not for guests" || err != nil {
		t.Errorf("outside there is %q now, %v", b, err)
	}
	if st, err := os.Stat(filepath.Join(dir, "in", "flood")); err != nil || st.Size() > 1<<20 {
		t.Errorf("%v, %v", st, err)
	}
}
