package chaos

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/wattlehq/wattle/client"
)

// network is three machines that share nothing but a wire.
type network struct {
	r        *run
	id, dir  string
	machines []*machine
	starts   atomic.Int64
	// begin starts processes that end with this one: Linux ties that to the thread.
	begin chan func()
	// shape is how links are made slow, as far as the kernel can.
	shape [][]string
}

// machine is a network namespace and a file system of its own, and the node on it.
type machine struct {
	net         *network
	n           int
	ns, dev, ip string
	addr, join  string
	disk        string   // as this process sees it
	enter       []string // runs what follows on the machine
	client      *client.Client

	mu      sync.Mutex
	proc    *process // nil while the node is down
	settled bool     // its node was ready once
	// What is wrong with it.
	stopped, slowed, full bool
	cut                   map[*machine]bool // what it sends there is lost
	wasFull               bool              // the disk was full in this life of the node
	// fine tells that nothing is wrong with the machine itself, and its node was ready; epoch counts its changes.
	fine  bool
	epoch int
}

// process is one life of a node.
type process struct {
	cmd      *exec.Cmd
	exited   chan struct{}
	expected atomic.Bool // it was told to end
}

// program is not called wattle: whoever ends what runs under that name on this computer does not mean these.
const program = "chaosnode"

// diskBytes is the size of a machine's file system: what a run leaves behind until its end has to fit.
func diskBytes() int64 { return 384<<20 + int64(*chaosTime/time.Minute)*(16<<20) }

func newNetwork(r *run, size int) *network {
	t := r.t
	if os.Getuid() != 0 {
		t.Fatal("chaos makes network namespaces and mounts: run it as root")
	}
	for tool, in := range map[string]string{"ip": "iproute2", "tc": "iproute2", "nsenter": "util-linux", "unshare": "util-linux", "mount": "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("chaos needs %s (Debian: %s)", tool, in)
		}
	}
	dir, err := os.MkdirTemp("", "wattle-chaos-")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{r: r, id: fmt.Sprintf("wc%d", os.Getpid()), dir: dir, begin: make(chan func())}
	t.Cleanup(n.remove)
	go func() {
		runtime.LockOSThread()
		for f := range n.begin {
			f()
		}
	}()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(dir, program), "github.com/wattlehq/wattle/cmd/wattle").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, d := range []string{"own", "texts"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	prefix := fmt.Sprintf("10.%d.%d.", 20+rand.IntN(200), rand.IntN(250))
	n.ip("link", "add", n.id, "type", "bridge")
	n.ip("addr", "add", prefix+"254/24", "dev", n.id)
	n.ip("link", "set", n.id, "up")
	for i := range size {
		n.add(i+1, prefix)
	}
	for _, m := range n.machines {
		for _, o := range n.machines {
			if m != o {
				m.join = strings.TrimPrefix(m.join+","+o.addr, ",")
			}
		}
	}
	n.probe()
	return n
}

// ip changes the network. That it cannot is no violation, but the end.
func (n *network) ip(args ...string) { n.tool("ip", args...) }

func (n *network) tool(name string, args ...string) {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		n.r.t.Fatalf("%s %s: %v: %s; are network namespaces allowed here?", name, strings.Join(args, " "), err, out)
	}
}

func (n *network) add(i int, prefix string) {
	m := &machine{net: n, n: i, ns: fmt.Sprintf("%s-%d", n.id, i), dev: n.id + "p", ip: fmt.Sprint(prefix, i), cut: map[*machine]bool{}}
	m.addr = m.ip + ":7070"
	n.machines = append(n.machines, m)
	n.ip("netns", "add", m.ns)
	outer := fmt.Sprintf("%s%d", n.id, i)
	n.ip("link", "add", outer, "type", "veth", "peer", "name", m.dev, "netns", m.ns)
	n.ip("link", "set", outer, "master", n.id, "up")
	n.ip("-n", m.ns, "addr", "add", m.ip+"/24", "dev", m.dev)
	n.ip("-n", m.ns, "link", "set", m.dev, "up")
	n.ip("-n", m.ns, "link", "set", "lo", "up")
	// Holds the file system, whatever happens to the node.
	own := filepath.Join(n.dir, "own")
	script := fmt.Sprintf("mount -t tmpfs -o size=%d none '%s' && echo mounted && exec sleep infinity", diskBytes(), own)
	holder := exec.Command("ip", "netns", "exec", m.ns, "unshare", "-m", "--propagation", "private", "sh", "-c", script)
	var text bytes.Buffer
	holder.Stderr = &text
	out, err := holder.StdoutPipe()
	if err == nil {
		err = n.spawn(holder)
	}
	if err != nil {
		n.r.t.Fatal(err)
	}
	n.r.t.Cleanup(func() { _ = holder.Process.Kill(); _ = holder.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		n.r.t.Fatalf("machine %d has no file system of its own: %s", i, &text)
	}
	m.disk = filepath.Join("/proc", fmt.Sprint(holder.Process.Pid), "root", own)
	m.enter = []string{"nsenter", "-t", fmt.Sprint(holder.Process.Pid), "-m", "-n"}
	m.client = client.Dial(m.addr)
}

// spawn starts a process that ends when this one does.
func (n *network) spawn(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	done := make(chan error)
	n.begin <- func() { done <- cmd.Start() }
	return <-done
}

// probe finds out how links can be made slow here.
func (n *network) probe() {
	dev := n.machines[0].dev
	for _, s := range [][]string{{"tbf", "rate", "2mbit", "burst", "16kb", "latency", "400ms"}, {"netem", "delay", "60ms", "30ms", "loss", "2%"}} {
		on := append([]string{"-n", n.machines[0].ns, "qdisc", "add", "dev", dev, "root"}, s...)
		if out, err := exec.Command("tc", on...).CombinedOutput(); err != nil {
			n.r.logf("NOT TESTED: this kernel has no %s: %s", s[0], bytes.TrimSpace(out))
			continue
		}
		n.tool("tc", "-n", n.machines[0].ns, "qdisc", "del", "dev", dev, "root")
		n.shape = append(n.shape, s)
	}
}

func (n *network) remove() {
	for _, m := range n.machines {
		m.mu.Lock()
		p := m.proc
		m.mu.Unlock()
		if p != nil {
			p.expected.Store(true)
			_ = p.cmd.Process.Kill()
			<-p.exited
		}
		m.client.Close()
		_ = exec.Command("ip", "netns", "del", m.ns).Run()
	}
	_ = exec.Command("ip", "link", "del", n.id).Run()
	close(n.begin)
	if n.r.t.Failed() || *chaosKeep {
		n.r.t.Logf("the nodes' logs are kept in %s", n.dir)
		return
	}
	os.RemoveAll(n.dir)
}

// unfine notes that something is wrong with the machine: what is asked of it need not be answered.
func (m *machine) unfine() {
	m.fine = false
	m.epoch++
}

// health returns whether nothing is wrong with the machine itself, and a number that is another one if anything was meanwhile.
func (m *machine) health() (fine bool, epoch int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fine, m.epoch
}

// start begins a new life of the node.
func (m *machine) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.proc != nil {
		return
	}
	log, err := os.OpenFile(m.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		m.net.r.t.Error(err)
		return
	}
	defer log.Close()
	fmt.Fprintf(log, "--- start at %.2f\n", time.Since(m.net.r.begun).Seconds())
	own := filepath.Join(m.net.dir, "own")
	args := append(m.enter[1:len(m.enter):len(m.enter)], filepath.Join(m.net.dir, program), "up", "--data", filepath.Join(own, "data"), "--addr", m.addr, "--insecure",
		"--allow-dir", filepath.Join(m.net.dir, "texts"), "--shards", "16", "--trim-entries", "100", "--slots", "4", "--collect-interval", "20s", "--pin-ttl", "2m")
	if m.n > 1 || m.settled { // the first one founds the cluster
		args = append(args, "--join", m.join)
	}
	p := &process{cmd: exec.Command(m.enter[0], args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := m.net.spawn(p.cmd); err != nil {
		m.net.r.t.Error(err)
		return
	}
	m.net.starts.Add(1)
	m.proc, m.wasFull = p, m.full
	go m.await(p)
}

func (m *machine) log() string { return filepath.Join(m.net.dir, fmt.Sprintf("node%d.log", m.n)) }

// await notes the end of a process, which must have a reason.
func (m *machine) await(p *process) {
	err := p.cmd.Wait()
	m.mu.Lock()
	m.proc = nil
	m.stopped = false
	m.unfine()
	wasFull := m.wasFull
	m.mu.Unlock()
	close(p.exited)
	if p.expected.Load() {
		return
	}
	end := m.tail()
	if wasFull && strings.Contains(end, "full") {
		m.net.r.logf("node %d ended because its disk is full", m.n)
		return
	}
	how := fmt.Sprint("ended by itself: ", err)
	if err == nil {
		how = "ended in good order, as if somebody else had told it to" // a script that kills a number that is another process's now?
	}
	m.net.r.violate("node %d %s: %s", m.n, how, end)
}

// tail returns the end of the node's log.
func (m *machine) tail() string {
	b, _ := os.ReadFile(m.log())
	return string(bytes.TrimSpace(b[max(0, len(b)-2000):]))
}

// kill ends the node without warning, or in good order.
func (m *machine) kill(sig syscall.Signal) {
	m.mu.Lock()
	p := m.proc
	m.unfine()
	m.mu.Unlock()
	if p == nil {
		return
	}
	p.expected.Store(true)
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Process.Signal(syscall.SIGCONT) // it may be frozen
	select {
	case <-p.exited:
		if sig == syscall.SIGTERM && !p.cmd.ProcessState.Success() && !m.wasFull {
			m.net.r.violate("node %d was told to stop and ended with %v: %s", m.n, p.cmd.ProcessState, m.tail())
		}
	case <-time.After(readyTime):
		m.net.r.violate("node %d does not end after %v", m.n, sig)
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// freeze stops the process where it is.
func (m *machine) freeze() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unfine()
	if m.proc != nil {
		m.stopped = true
		_ = m.proc.cmd.Process.Signal(syscall.SIGSTOP)
	}
}

// heal ends everything that is wrong with the machine.
func (m *machine) heal() {
	m.mend()
	defer m.start()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slowed {
		m.net.tool("tc", "-n", m.ns, "qdisc", "del", "dev", m.dev, "root")
		m.slowed = false
	}
	if m.full {
		if err := os.Remove(m.filler()); err != nil {
			m.net.r.t.Error(err)
		}
		m.full = false
	}
	if m.stopped && m.proc != nil {
		_ = m.proc.cmd.Process.Signal(syscall.SIGCONT)
	}
	m.stopped = false
}

// mend lets what the machine sends arrive again.
func (m *machine) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for to := range m.cut {
		m.net.ip("-n", m.ns, "neigh", "del", to.ip, "dev", m.dev)
	}
	clear(m.cut)
}

// awaitReady waits until the node takes requests.
func (m *machine) awaitReady() {
	r := m.net.r
	last := ""
	ok := r.until(readyTime, func() string {
		if m.hampered() {
			return ""
		}
		m.start() // it may have found only now that its disk was full
		last = m.ready()
		return last
	})
	if m.hampered() {
		return
	}
	m.mu.Lock()
	m.fine = ok && m.proc != nil
	m.settled = m.settled || m.fine
	m.mu.Unlock()
	if !ok && r.ctx.Err() == nil {
		r.violate("node %d is not ready after %s: %s; its log ends: %s", m.n, readyTime, last, m.tail())
	}
}

// hampered tells that the machine has another fault, with which its node need not become ready.
func (m *machine) hampered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.full || m.slowed || m.stopped
}

func (m *machine) ready() string {
	ctx, cancel := context.WithTimeout(m.net.r.ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.addr+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(res.Body)
		return fmt.Sprintf("%s: %s", res.Status, b)
	}
	return ""
}

// lose lets everything vanish that the machine sends to another: it goes to an address on the wire that nobody has.
func (m *machine) lose(to *machine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m == to || m.cut[to] {
		return
	}
	m.net.ip("-n", m.ns, "neigh", "replace", to.ip, "lladdr", "02:00:00:00:00:99", "nud", "permanent", "dev", m.dev)
	m.cut[to] = true
}

// apart tells whether some machines cannot hear others.
func (n *network) apart() bool {
	return slices.ContainsFunc(n.machines, func(m *machine) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return len(m.cut) > 0
	})
}

// slow makes everything slow that the machine sends.
func (m *machine) slow(how []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unfine()
	m.net.tool("tc", append([]string{"-n", m.ns, "qdisc", "replace", "dev", m.dev, "root"}, how...)...)
	m.slowed = true
}

// wipe takes the node's data away, while it is down.
func (m *machine) wipe() {
	if err := os.RemoveAll(filepath.Join(m.disk, "data")); err != nil {
		m.net.r.t.Error(err)
	}
}

func (m *machine) filler() string { return filepath.Join(m.disk, "filler") }

// fill leaves the machine so many bytes of its disk.
func (m *machine) fill(leave int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unfine()
	var s syscall.Statfs_t
	if err := syscall.Statfs(m.disk, &s); err != nil {
		return err
	}
	f, err := os.Create(m.filler())
	if err != nil {
		return err
	}
	m.full, m.wasFull = true, true
	err = syscall.Fallocate(int(f.Fd()), 0, 0, max(int64(s.Bavail)*s.Bsize-leave, 1))
	if errors.Is(err, syscall.ENOSPC) {
		err = nil // the node was faster: full is full
	}
	return errors.Join(err, f.Close())
}
