package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/wattlehq/wattle/node"
)

// waiting is a node of the binary that is to join a cluster that is not there yet.
func waiting(t *testing.T, data, addr string, join ...string) *exec.Cmd {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, upArgs(node.Config{Data: data, Addr: addr, Join: join})...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("wattle up: %v\n%s", err, out.String())
		}
	})
	return cmd
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// A node that waits to join says so at once, whatever it is asked, and joins when there is somebody, at the same port.
func TestWaitsToJoin(t *testing.T) {
	t.Parallel()
	first := inProcess(t, node.Config{Shards: 1})
	first.settle()
	first.stop()
	addr := freeAddr()
	waiting(t, filepath.Join(t.TempDir(), "data"), addr, first.addr)
	eventually(t, "it answers", func() bool { status, _ := get(t, "http://"+addr+"/healthz"); return status == http.StatusOK })
	if status, text := get(t, "http://"+addr+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "waits to join") || !strings.Contains(text, first.addr) {
		t.Errorf("/readyz: %d %s", status, text)
	}
	for _, args := range []string{"node ls", "cluster status", "call a/b", "job ls", "service ls", "node ping"} {
		out, stderr, status := runWattle(t, "", "", append([]string{"--addr", addr}, strings.Fields(args)...)...)
		if status != 1 || out != "" || !strings.Contains(stderr, "waits to join") || !strings.Contains(stderr, first.addr) || !strings.Contains(stderr, "--join") {
			t.Errorf("%s: %d %s%s", args, status, out, stderr)
		}
	}
	first.again()
	eventually(t, "it is ready", func() bool { status, _ := get(t, "http://"+addr+"/readyz"); return status == http.StatusOK })
	if out, stderr, status := runWattle(t, "", "", "--addr", addr, "node", "ls"); status != 0 || strings.Count(out, "alive") != 2 {
		t.Errorf("node ls: %d %s%s", status, out, stderr)
	}
}

// A node that was interrupted while it waited to join does not found a cluster when it is started without --join.
func TestInterruptedJoin(t *testing.T) {
	t.Parallel()
	first := inProcess(t, node.Config{Shards: 1})
	first.settle()
	first.stop()
	data, addr := filepath.Join(t.TempDir(), "data"), freeAddr()
	cmd := waiting(t, data, addr, first.addr)
	eventually(t, "it waits", func() bool { status, _ := get(t, "http://"+addr+"/healthz"); return status == http.StatusOK })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	_, stderr, status := runWattle(t, "", "", "up", "--data", data, "--addr", addr)
	if status != 1 || !strings.Contains(stderr, "was to join") || !strings.Contains(stderr, "--join="+first.addr) || !strings.Contains(stderr, data) {
		t.Errorf("without --join: %d %s", status, stderr)
	}
	first.again()
	second := asBinary(t, node.Config{Data: data, Addr: addr, Join: []string{first.addr}})
	began := func(how string) {
		t.Helper()
		if !strings.HasSuffix(strings.TrimSpace(second.ready), how+")") {
			t.Errorf("%q does not say %q", second.ready, how)
		}
	}
	began("joined")
	if out, stderr, status := second.wattle("", "node", "ls"); status != 0 || strings.Count(out, "alive") != 2 {
		t.Errorf("node ls: %d %s%s", status, out, stderr)
	}
	if left, err := filepath.Glob(filepath.Join(data, "joining*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// Now that it belongs to a cluster, --join need not be repeated; and an empty directory founds one as ever.
	second.stop()
	second.cfg.Join = nil
	second = second.again()
	began("as before")
	second.stop()
	if err := os.RemoveAll(data); err != nil {
		t.Fatal(err)
	}
	second = second.again()
	began("founded")
}
