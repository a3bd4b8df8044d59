// Package e2e tests Wattle from the outside: the same cases against a node in this process and against the built binary.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/internal/plugintest"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/testdata"
)

var binaryFlag = flag.String("binary", "", "a wattle binary to test; built from this tree by default")

func TestMain(m *testing.M) {
	flag.Parse()
	// Most of the time they wait: for elections, leases and each other.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set(strconv.Itoa(3 * runtime.GOMAXPROCS(0))); err != nil {
			panic(err)
		}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	// Compiled once for all nodes: under the race detector that is most of what they would do.
	var err error
	if sharedCache, err = os.MkdirTemp("", "wattle-e2e-cache-"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(sharedCache)
	if builtDir != "" {
		os.RemoveAll(builtDir)
	}
	os.Exit(code)
}

var builtDir, sharedCache string

// binary returns the path of the wattle binary, built at most once.
var binary = sync.OnceValues(func() (string, error) {
	if *binaryFlag != "" {
		return filepath.Abs(*binaryFlag)
	}
	dir, err := os.MkdirTemp("", "wattle-e2e-")
	if err != nil {
		return "", err
	}
	builtDir = dir
	out := filepath.Join(dir, "wattle")
	b, err := exec.Command("go", "build", "-o", out, "github.com/wattlehq/wattle/cmd/wattle").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, b)
	}
	return out, nil
})

// target is a node under test.
type target struct {
	*client.Client
	addr string
	data string
	t    testing.TB
	cfg  node.Config
	// stop ends the node in good order, kill does it without warning; only the binary can be killed.
	stop, kill func()
	// signal is for the binary only.
	signal func(os.Signal) error
	bin    bool
	pid    int
	ready  string // what it printed
	// ends is what the error has to say with which it ends by itself, if it should.
	ends string
}

func (n *target) url(path string) string { return "http://" + n.addr + path }

// both runs a case against a node in process and one of the binary.
func both(t *testing.T, cfg node.Config, fn func(t *testing.T, n *target)) {
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		fn(t, inProcess(t, cfg))
	})
	t.Run("binary", func(t *testing.T) {
		t.Parallel()
		fn(t, asBinary(t, cfg))
	})
}

func inProcess(t testing.TB, cfg node.Config) *target {
	t.Helper()
	if cfg.Data == "" {
		cfg.Data = filepath.Join(t.TempDir(), "data")
	}
	if cfg.Addr == "" {
		cfg.Addr = freeAddr()
	}
	cfg.Cache = sharedCache
	cfg.Fatal = func(err error) { panic(err) }
	n, err := node.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	var started *target
	stop := sync.OnceFunc(func() {
		if started == nil || started.ends == "" {
			cancel()
		}
		if err := <-ended; !started.mayEnd(fmt.Sprint(err), err == nil) {
			t.Error("node:", err)
		}
	})
	t.Cleanup(stop)
	select {
	case <-n.Ready():
	case err := <-ended:
		ended <- nil
		t.Fatal("node ended:", err)
	case <-time.After(time.Minute):
		t.Fatal("node not ready")
	}
	started = newTarget(t, n.Addr(), cfg, stop)
	return started
}

// mayEnd tells whether a node was to end with an error that says something, or without one.
func (n *target) mayEnd(text string, clean bool) bool {
	if n == nil || n.ends == "" {
		return clean
	}
	return !clean && strings.Contains(text, n.ends)
}

// The ports that freeAddr hands out. The kernel gives none of them to a connection (it begins at 32768), so that a node that is
// started again finds those it had.
const firstPort, allPorts = 12000, 18000

var ports atomic.Uint32

// freeAddr is an address where nobody listens, nor at the two ports after it, which are a node's by default.
func freeAddr() string {
	for {
		port := firstPort + (os.Getpid()*21+int(ports.Add(3)))%allPorts
		free := true
		for i := range 3 {
			addr := fmt.Sprintf("127.0.0.1:%d", port+i)
			l, err := net.Listen("tcp", addr)
			if err == nil {
				l.Close()
			}
			u, uerr := net.ListenPacket("udp", addr)
			if uerr == nil {
				u.Close()
			}
			free = free && err == nil && uerr == nil
		}
		if free {
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
}

func newTarget(t testing.TB, addr string, cfg node.Config, stop func()) *target {
	n := &target{Client: client.Dial(addr), addr: addr, data: cfg.Data, t: t, cfg: cfg, stop: stop, kill: stop}
	t.Cleanup(n.Client.Close)
	return n
}

// asBinary runs "wattle up".
func asBinary(t testing.TB, cfg node.Config) *target {
	t.Helper()
	n, err := tryBinary(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tryBinary runs "wattle up", which may end before it is ready.
func tryBinary(t testing.TB, cfg node.Config) (*target, error) {
	t.Helper()
	if cfg.Data == "" {
		cfg.Data = filepath.Join(t.TempDir(), "data")
	}
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, upArgs(cfg)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("wattle up: %w, %w: %s", err, cmd.Wait(), stderr.String())
	}
	_, rest, _ := strings.Cut(line, "http://")
	addr, _, _ := strings.Cut(rest, " ")
	var n *target
	end := func(sig syscall.Signal) func() {
		return func() {
			if n.ends != "" {
				sig = 0 // it ends by itself
			}
			if err := cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Error(err)
			}
			err := cmd.Wait()
			if sig != syscall.SIGKILL && !n.mayEnd(stderr.String(), err == nil) {
				t.Errorf("wattle up: %v: %s", err, stderr.String())
			}
		}
	}
	var once sync.Once
	n = newTarget(t, addr, cfg, func() { once.Do(end(syscall.SIGTERM)) })
	n.kill = func() { once.Do(end(syscall.SIGKILL)) }
	n.bin, n.signal, n.pid, n.ready = true, cmd.Process.Signal, cmd.Process.Pid, line
	t.Cleanup(n.stop)
	return n, nil
}

func upArgs(cfg node.Config) []string {
	addr := cfg.Addr
	if addr == "" {
		addr = freeAddr()
	}
	args := []string{"up", "--data", cfg.Data, "--addr", addr}
	add := func(flag string, v any, set bool) {
		if set {
			args = append(args, fmt.Sprintf("--%s=%v", flag, v))
		}
	}
	add("cache", sharedCache, true)
	for _, j := range cfg.Join {
		add("join", j, true)
	}
	for _, d := range cfg.AllowDirs {
		add("allow-dir", d, true)
	}
	for _, p := range cfg.Pools {
		add("pool", p, true)
	}
	for _, d := range cfg.WriteDirs {
		add("allow-write-dir", d, true)
	}
	add("guest-memory", cfg.GuestMemory, cfg.GuestMemory > 0)
	for _, o := range cfg.Origins {
		add("allow-origin", o, true)
	}
	for _, h := range cfg.Hosts {
		add("allow-host", h, true)
	}
	add("gossip-addr", cfg.GossipAddr, cfg.GossipAddr != "")
	add("peer-addr", cfg.PeerAddr, cfg.PeerAddr != "")
	add("grace", cfg.Grace, cfg.Grace > 0)
	add("slots", cfg.Slots, cfg.Slots > 0)
	add("max-calls", cfg.MaxCalls, cfg.MaxCalls > 0)
	add("shards", cfg.Shards, cfg.Shards > 0)
	add("shuffle-memory", cfg.ShuffleBytes, cfg.ShuffleBytes > 0)
	add("trim-entries", cfg.TrimEntries, cfg.TrimEntries > 0)
	add("collect-interval", cfg.CollectInterval, cfg.CollectInterval > 0)
	add("pin-ttl", cfg.PinTTL, cfg.PinTTL > 0)
	add("retention", cfg.Retention, cfg.Retention > 0)
	add("worker", cfg.Worker, cfg.Worker)
	return args
}

// again starts a node like n on its data, after n was stopped or killed.
func (n *target) again() *target {
	n.t.Helper()
	if n.bin {
		return asBinary(n.t, n.cfg)
	}
	return inProcess(n.t, n.cfg)
}

// pushPlugin publishes one of the repository's plugins.
func (n *target) pushPlugin(name string) {
	n.t.Helper()
	n.push(name, plugintest.Build(n.t, name), client.PushOptions{})
}

// pushFixture publishes a hand-written module of testdata as a service.
func (n *target) pushFixture(name string) {
	n.t.Helper()
	n.push(name, testdata.Wasm(name), client.PushOptions{})
}

func (n *target) push(service string, wasm []byte, o client.PushOptions) {
	n.t.Helper()
	if _, _, err := n.Push(n.t.Context(), service, wasm, o); err != nil {
		n.t.Fatal("push", service, err)
	}
}

// wattle runs the command line client against the node and returns what it printed and its exit status.
func (n *target) wattle(stdin string, args ...string) (stdout, stderr string, status int) {
	n.t.Helper()
	return runWattle(n.t, "", stdin, append([]string{"--addr", n.addr}, args...)...)
}

func runWattle(t testing.TB, dir, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Dir = dir
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			t.Fatal(err)
		}
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}
