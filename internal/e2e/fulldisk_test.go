package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/node"
)

// TestFullDisk lets the disk be full from some operation of the scenario on. The node refuses to start, answers that the
// disk is full or ends for that reason; with space again, everything acknowledged is there.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(*powerlossSeed, 5))
	step := 40
	if *powerlossAll {
		step = 1
	}
	ends := map[string]int{}
	for at := 1 + rng.IntN(step); ; at += 1 + rng.IntN(2*step-1) {
		how, over := fullDisk(t, at)
		if over {
			break
		}
		ends[how]++
	}
	t.Log(ends)
	if ends["disk_full while it ran"] == 0 || ends["disk_full answered"] == 0 {
		t.Errorf("the disk was never full in all the ways it can be: %v", ends)
	}
}

// fullDisk fails everything that takes space from operation at on.
func fullDisk(t *testing.T, at int) (how string, over bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := &sweep{mem: vfs.NewCrashableMem(), led: newLedger(), rng: rand.New(rand.NewPCG(1, 1))}
	var ops, full atomic.Int64
	var where atomic.Pointer[string]
	s.onTap = func(op, path string) error {
		if s.halted.Load() || op == "sync" || op == "remove" {
			return nil
		}
		// A disk that gets full while Pebble opens may crash it, which is why a node looks for space before.
		if s.starting.Load() && full.Load() == 0 {
			ops.Add(1)
			return nil
		}
		if ops.Add(1) < int64(at) {
			return nil
		}
		if full.Add(1) == 1 {
			w := op + " " + path
			where.Store(&w)
		}
		return &os.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
	}
	var died atomic.Pointer[error]
	s.fatal = func(err error) {
		died.Store(&err)
		cancel()
	}
	err := s.play(ctx)
	if full.Load() == 0 {
		if err != nil {
			t.Error("the scenario:", err)
		}
		return "", true
	}
	switch {
	case died.Load() != nil:
		err = *died.Load()
		how = "disk_full while it ran"
	case err == nil:
		how = "not noticed"
	default:
		how = client.Reason(err) + " answered"
		if strings.Contains(err.Error(), "disk_full") || strings.Contains(err.Error(), "no space left") {
			how = "disk_full answered"
		}
	}
	if strings.HasSuffix(how, "ran") {
		if f := fault.As(err); f == nil || f.Reason != "disk_full" || f.Help == "" {
			t.Errorf("full before operation %d, %s: %s: %v", at, *where.Load(), how, err)
		}
	} else if how != "disk_full answered" && how != "not noticed" {
		t.Errorf("full before operation %d, %s: %s: %v", at, *where.Load(), how, err)
	}
	// There is no start while the disk is full.
	still := &tapFS{FS: s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: s.rng}), tap: func(op, path string) (bool, error) {
		if op == "sync" || op == "remove" {
			return false, nil
		}
		return false, &os.PathError{Op: op, Path: path, Err: syscall.ENOSPC}
	}}
	if n, err := begin(crashConfig(still)); fault.Reason(err) != "disk_full" {
		if n != nil {
			_ = n.stop()
		}
		t.Errorf("start on a full disk: %v", err)
	}
	// The process may have ended, or the machine with it.
	for _, kept := range []int{100, 0} {
		left := s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: kept, RNG: s.rng})
		if err := inspect(left, s.led.around(func() {})); err != nil {
			t.Errorf("full before operation %d, %s, %d%% of what was not synced kept: %v", at, *where.Load(), kept, err)
		}
	}
	return how, false
}

// TestFullTmpfs fills a real file system under the binary.
func TestFullTmpfs(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	if err := syscall.Mount("wattle-test", disk, "tmpfs", 0, "size=160m"); err != nil {
		t.Skip("a small file system cannot be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	cfg := node.Config{Data: filepath.Join(disk, "data"), Shards: 2, TrimEntries: 64}
	filler := filepath.Join(disk, "filler")
	fill := func(leave int64) {
		t.Helper()
		f, err := os.OpenFile(filler, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(f, emptiness{})
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal("the disk is not full:", err)
		}
		if err := errors.Join(f.Truncate(max(0, n-leave)), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	empty := func() {
		t.Helper()
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
	}

	fill(0)
	upFails(t, cfg, cfg.Data, "full", "free some space")
	empty()

	s := &sweep{led: newLedger()}
	n := startMortal(t, cfg)
	if err := s.push(t.Context(), n.lifetime, "svc", 1, "mapreduce"); err != nil {
		t.Fatal(err)
	}
	spec := strings.ReplaceAll(bigSpec, "@stable", "@1")
	if err := s.job(t.Context(), n.lifetime, "big job", spec, wantBig); err != nil {
		t.Fatal(err)
	}
	fill(2 << 20)
	// Blobs and logs fill what is left.
	var err error
	for i := 0; err == nil && i < 500; i++ {
		key := fmt.Sprint("job ", i)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err = s.job(ctx, n.lifetime, key, strings.ReplaceAll(spec, "one", key), func([]byte) error { return nil })
		cancel()
	}
	if err == nil {
		t.Fatal("the disk never got full")
	}
	// A job waits for space; the node ends if it is the log that found none.
	waits := errors.Is(err, context.DeadlineExceeded) || connect.CodeOf(err) == connect.CodeDeadlineExceeded
	if !waits && !strings.Contains(err.Error(), "no space left") && client.Reason(err) != "disk_full" {
		select {
		case <-n.exited:
			isMessage(t, n.stderr.String(), cfg.Data, "full", "free some space")
		case <-time.After(30 * time.Second):
			t.Errorf("the node lives on and answers %v", err)
		}
	}
	t.Logf("%v; %s", err, n.stderr.String())
	empty()
	holds := func(c *client.Client) {
		t.Helper()
		for what, f := range s.led.facts {
			if err := f(t.Context(), c); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	if waits {
		holds(n.Client) // what waited comes to its end now
	}
	_ = n.stop()
	n2 := startMortal(t, cfg)
	holds(n2.Client)
	if err := s.push(t.Context(), n2.lifetime, "svc", 2, "echo"); err != nil {
		t.Error("with space again:", err)
	}
}

// mortal is a node of the binary that may end at any time.
type mortal struct {
	*lifetime
	exited chan struct{}
	stderr *bytes.Buffer
	err    error
}

func startMortal(t *testing.T, cfg node.Config) *mortal {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, upArgs(cfg)...)
	m := &mortal{exited: make(chan struct{}), stderr: &bytes.Buffer{}}
	cmd.Stderr = m.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	go func() { m.err = cmd.Wait(); close(m.exited) }()
	if err != nil {
		<-m.exited
		t.Fatal("wattle up:", err, m.stderr.String())
	}
	_, rest, _ := strings.Cut(line, "http://")
	addr, _, _ := strings.Cut(rest, " ")
	m.lifetime = &lifetime{Client: client.Dial(addr), addr: addr}
	m.stop = sync.OnceValue(func() error {
		m.Close()
		_ = cmd.Process.Kill()
		<-m.exited
		return nil
	})
	t.Cleanup(func() { _ = m.stop() })
	return m
}

// emptiness is a file without an end.
type emptiness struct{}

func (emptiness) Read(p []byte) (int, error) { clear(p); return len(p), nil }
