package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/node"
)

// A result is on three nodes. When one of them is gone, the one that did without gets a copy.
func TestCopies(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := node.Config{Shards: 4, AllowDirs: []string{dir}}
	nodes := []*target{inProcess(t, cfg)}
	cfg.Join = []string{nodes[0].addr}
	for range 3 {
		nodes = append(nodes, inProcess(t, cfg))
	}
	for _, n := range nodes {
		eventually(t, "all know each other, and the shards have their replicas", func() bool {
			res, err := n.Nodes.ListNodes(t.Context(), connect.NewRequest(&wattlev1.ListNodesRequest{}))
			status, serr := n.Nodes.GetClusterStatus(t.Context(), connect.NewRequest(&wattlev1.GetClusterStatusRequest{}))
			return err == nil && serr == nil && len(res.Msg.Nodes) == 4 &&
				!slices.ContainsFunc(status.Msg.Shards, func(s *wattlev1.Shard) bool { return s.Live < 3 })
		})
	}
	have := func(digest string) []*target {
		name := strings.TrimPrefix(digest, "sha256-")
		return slices.DeleteFunc(slices.Clone(nodes), func(n *target) bool {
			_, err := os.Stat(filepath.Join(n.data, "blobs", name[:2], name))
			return err != nil
		})
	}
	nodes[0].pushFixture("echo")
	// Who makes it has it as well: one of a few is made by one of the three.
	for i := range 20 {
		file := fmt.Sprint("large", i)
		if err := os.WriteFile(filepath.Join(dir, file), fmt.Append(make([]byte, 3<<20), i), 0o600); err != nil {
			t.Fatal(err)
		}
		job := nodes[0].submit("{name: copy, stages: [{name: a, function: echo/echo, files: {dir: '"+dir+"', glob: "+file+"}}]}", nil)
		nodes[0].complete(job.Id)
		digest := nodes[0].tasks(t, job.Id, "a")[0].OutputDigest
		copies := have(digest)
		if len(copies) < 3 {
			t.Fatalf("%d copies", len(copies))
		}
		if len(copies) > 3 {
			continue
		}
		gone := copies[0]
		gone.kill()
		nodes = slices.DeleteFunc(nodes, func(n *target) bool { return n == gone })
		eventually(t, "three copies again", func() bool { return len(have(digest)) == 3 })
		return
	}
	t.Fatal("all have all results")
}
