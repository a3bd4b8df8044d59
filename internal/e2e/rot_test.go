package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

func fileSize(t *testing.T, file string) int64 {
	t.Helper()
	st, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

func flipBit(t *testing.T, file string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/3] ^= 4
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// One disk of three may rot in any way: its node finds out, at its start or when it comes across it, takes everything from the
// others, and answers nothing wrong meanwhile. If two have rotted, they say so and stay as they are.
func TestRot(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for nodes to come back, again and again")
	}
	t.Parallel()
	dir := goFiles("encoding")
	c := newTrio(t, asBinary, node.Config{AllowDirs: []string{dir}, Shards: 4})
	c.nodes[0].pushFixture("echo")
	c.nodes[0].pushPlugin("wordcount")
	want := countWords(t, dir)
	var jobs []string
	for range 8 {
		id := c.nodes[0].submit(wordcountSpec, map[string]string{"dir": dir, "split": "100000"}).Id
		c.nodes[0].complete(id)
		jobs = append(jobs, id)
	}
	found := 0
	for i, way := range []struct {
		name string
		do   func(data string)
		// sure tells that it is noticed whatever is read.
		sure bool
	}{
		{"a bit flipped in a table", func(data string) { flipBit(t, filepath.Join(data, largest(t, data, "state/*.sst"))) }, false},
		{"a table cut off", func(data string) {
			file := filepath.Join(data, largest(t, data, "state/*.sst"))
			if err := os.Truncate(file, fileSize(t, file)/2); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"a table gone", func(data string) {
			if err := os.Remove(filepath.Join(data, largest(t, data, "state/*.sst"))); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"a bit flipped in the log", func(data string) { flipBit(t, filepath.Join(data, largest(t, data, "log/*.log"))) }, true},
		{"a manifest gone", func(data string) {
			if err := os.Remove(filepath.Join(data, largest(t, data, "log/MANIFEST-*"))); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		victim := c.nodes[i%3]
		victim.stop()
		way.do(victim.data)
		victim.cfg.Join = nil
		if i == 1 { // One that has forgotten by gossip whom the victim was, once that is another.
			other := c.nodes[(i+1)%3]
			other.stop()
			c.nodes[(i+1)%3] = other.again()
		}
		c.nodes[i%3] = c.rotten(way.name, victim, jobs, want)
		c.whole()
		aside, err := filepath.Glob(filepath.Join(victim.data, "damaged-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(aside) > 0 {
			found++
			for _, dir := range aside {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
		} else if way.sure {
			t.Errorf("%s: not noticed", way.name)
		}
	}
	t.Logf("noticed %d", found)

	for _, n := range c.nodes[1:] {
		n.stop()
		if err := os.Remove(filepath.Join(n.data, largest(t, n.data, "state/MANIFEST-*"))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the third knows that it is alone", func() bool {
		res, err := c.nodes[0].Nodes.GetClusterStatus(t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(res.Msg.Shards, func(s *wattlev1.Shard) bool { return s.Leader != "" })
	})
	for _, n := range c.nodes[1:] {
		_, err := tryBinary(t, n.cfg)
		if err == nil || !strings.Contains(err.Error(), "bring the other nodes back first, or restore the data directory from a copy") {
			t.Errorf("two of three are damaged: %v", err)
		}
		if aside, err := filepath.Glob(filepath.Join(n.data, "damaged-*")); err != nil || len(aside) > 0 {
			t.Errorf("put aside although it is needed: %v, %v", aside, err)
		}
	}
	c.call(c.nodes[0], "what needs no quorum goes on")
	_, err := c.nodes[0].Registry.SetAlias(t.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: "echo", Alias: "late", Number: 1}))
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("a change without a quorum: %v", err)
	}
}

// rotten starts a node on what is left of its data, and has it tell all it knows, until it does: it may end when it comes across the damage.
func (c *trio) rotten(way string, victim *target, jobs []string, want map[string]int) *target {
	t := c.t
	t.Helper()
	var back *target
	eventually(t, way+": it comes back", func() bool {
		n, err := tryBinary(t, victim.cfg)
		if err != nil {
			// It may find the damage only now, or the others may have no leader yet.
			if !strings.Contains(err.Error(), "damage") {
				t.Fatalf("%s: %v", way, err)
			}
			return false
		}
		if !c.tells(n, jobs, want) {
			n.kill()
			return false
		}
		back = n
		return true
	})
	return back
}

// tells has a node tell of all jobs. It may end meanwhile; what it tells must be right.
func (c *trio) tells(n *target, jobs []string, want map[string]int) bool {
	for _, id := range jobs {
		got, err := n.tryCounts(id, "total")
		if connect.CodeOf(err) == connect.CodeUnavailable {
			c.t.Logf("while %s tells: %v", n.addr, err)
			return false
		}
		if err != nil {
			c.t.Fatal(err)
		}
		sameCounts(c.t, got, want)
	}
	return true
}
