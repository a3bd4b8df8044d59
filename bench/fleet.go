package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// fleet is a number of nodes, each a process of the binary with a data directory of its own, all on this machine.
type fleet struct {
	bin, dir string
	nodes    []*process
}

// process is one of them. It keeps its addresses and its data when it is started again.
type process struct {
	*client.Client
	id, addr string
	args     []string
	cmd      *exec.Cmd
}

// newFleet builds the binary and starts nothing.
func newFleet(ctx context.Context) (*fleet, error) {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: dir, bin: filepath.Join(dir, "wattle")}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/wattlehq/wattle").Output()
	if err != nil {
		f.close()
		return nil, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", f.bin, "./cmd/wattle")
	build.Dir = strings.TrimSpace(string(root))
	if out, err := build.CombinedOutput(); err != nil {
		f.close()
		return nil, fmt.Errorf("build wattle: %w: %s", err, out)
	}
	return f, nil
}

// withFleet runs fn with so many nodes that have a replica of every shard each, as far as there are to be any.
func withFleet(ctx context.Context, n int, fn func(*fleet) error) error {
	f, err := newFleet(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	for range n {
		if err := f.add(ctx); err != nil {
			return err
		}
	}
	if err := f.whole(ctx); err != nil {
		return err
	}
	return fn(f)
}

func (f *fleet) close() {
	for _, p := range f.nodes {
		p.Close()
		if p.cmd.Process != nil {
			_ = p.cmd.Process.Kill() // it may be gone already, and its data goes anyway
			_ = p.cmd.Wait()
		}
	}
	os.RemoveAll(f.dir)
}

// add starts one more node; the first founds the cluster.
func (f *fleet) add(ctx context.Context) error {
	p := &process{args: []string{"--data", filepath.Join(f.dir, fmt.Sprint("data", len(f.nodes)))}}
	join := []string{"--addr", "127.0.0.1:0"}
	if len(f.nodes) > 0 {
		join = append(join, "--join", f.nodes[0].addr)
	}
	if err := p.up(ctx, f.bin, join...); err != nil {
		return err
	}
	f.nodes = append(f.nodes, p)
	res, err := p.Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
	if err != nil {
		return err
	}
	self := res.Msg.Nodes[0]
	p.id = self.Id
	p.args = append(p.args, "--addr", self.Addr, "--gossip-addr", self.GossipAddr, "--peer-addr", self.PeerAddr)
	return nil
}

// up starts the process and waits until it takes requests.
func (p *process) up(ctx context.Context, bin string, more ...string) error {
	p.cmd = exec.Command(bin, append(append([]string{"up", "--output", "json", "--log-level", "error"}, p.args...), more...)...)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { p.cmd.Process.Kill() })()
	line := bufio.NewScanner(out)
	var ready struct{ Addr string }
	if !line.Scan() {
		err = errors.New("the node did not get ready")
	} else {
		err = json.Unmarshal(line.Bytes(), &ready)
	}
	if err != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		return err
	}
	if p.Client == nil {
		p.addr, p.Client = ready.Addr, client.Dial(ready.Addr)
	}
	return nil
}

// kill ends the process with no warning.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // says only that it was killed
	return err
}

// whole waits until every shard has a voter on as many nodes as it should, all of them there and at most few entries behind, and
// no node has more than its share of them.
func (f *fleet) whole(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		why, err := f.lacks(ctx)
		if err == nil && why == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the cluster does not become whole: %s, %w", why, errors.Join(err, ctx.Err()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// near is how many entries a replica that is written to may lack without counting as behind.
const near = 100

func (f *fleet) lacks(ctx context.Context) (string, error) {
	res, err := f.nodes[0].Nodes.GetClusterStatus(ctx, connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
	if err != nil {
		return "", err
	}
	want := min(3, len(f.nodes))
	if int(res.Msg.Want) != want || len(res.Msg.Silent) > 0 {
		return fmt.Sprintf("%d replicas are aimed at, %v are silent", res.Msg.Want, res.Msg.Silent), nil
	}
	replicas, leading := map[string]int{}, map[string]int{}
	for _, s := range res.Msg.Shards {
		if s.Leader == "" || s.Changing || int(s.Live) != want || int(s.Voters) != want || len(s.Replicas) != want {
			return fmt.Sprintf("shard %d has %d of %d voters, %d of them there", s.Id, s.Voters, want, s.Live), nil
		}
		leading[s.Leader]++
		for _, r := range s.Replicas {
			replicas[r.Node]++
			if r.Lag > near {
				return fmt.Sprintf("shard %d lags", s.Id), nil
			}
		}
	}
	for _, p := range f.nodes {
		// What placement is content with: moving replicas costs more than having a few too many, moving leaders less.
		r, l := float64(len(res.Msg.Shards)*want)/float64(len(f.nodes)), float64(len(res.Msg.Shards))/float64(len(f.nodes))
		if math.Abs(float64(replicas[p.id])-r) >= 2+r/20 || math.Abs(float64(leading[p.id])-l) >= 2 {
			return fmt.Sprintf("node %s has %d replicas and leads %d", p.id, replicas[p.id], leading[p.id]), nil
		}
	}
	return "", nil
}
