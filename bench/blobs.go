package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/node"
	"github.com/wattlehq/wattle/node/peers"
	"github.com/wattlehq/wattle/shard"
	"github.com/wattlehq/wattle/store"
	"github.com/wattlehq/wattle/store/blob"
	"github.com/wattlehq/wattle/transfer"
)

// transferred is the size of the blob.
const transferred = 128 << 20

// blobs fetches a blob from one node and from three, beside a plain HTTP download of the same bytes. Both are on disk in the end.
func blobs(ctx context.Context, rounds int) (rows []Row, err error) {
	dir, err := os.MkdirTemp("", "wattle-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	content := make([]byte, transferred)
	_, _ = rand.Read(content)
	h, err := newHaving(ctx, dir, content)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	file := filepath.Join(dir, "plain")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, file) })}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	var one, three, plain []float64
	rate := func(to *[]float64, do func(string) error) error {
		target := filepath.Join(dir, "target")
		begin := time.Now()
		if err := do(target); err != nil {
			return err
		}
		*to = append(*to, transferred/time.Since(begin).Seconds()/(1<<20))
		return os.RemoveAll(target)
	}
	for range rounds {
		err := errors.Join(
			rate(&one, func(to string) error { return h.fetch(ctx, to, 1) }),
			rate(&three, func(to string) error { return h.fetch(ctx, to, 3) }),
			rate(&plain, func(to string) error { return download(ctx, "http://"+l.Addr().String(), to) }),
		)
		if err != nil {
			return nil, err
		}
	}
	for _, s := range []struct {
		name string
		got  []float64
	}{{"from one node", one}, {"from three nodes", three}} {
		rows = append(rows, Row{
			Bench: "cluster", Case: fmt.Sprintf("blob of %d MiB %s", transferred>>20, s.name), Metric: "throughput", Unit: "MiB/s",
			Wattle: median(s.got), Beside: "plain HTTP download, nothing verified", Other: median(plain), Ratio: median(s.got) / median(plain),
		})
	}
	return rows, nil
}

// having are nodes of their own that have the blob.
type having struct {
	d     digest.Digest
	addrs map[shard.NodeID]string
	names []string
	stop  func() error
}

func newHaving(ctx context.Context, dir string, content []byte) (*having, error) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 3)
	started := 0
	h := &having{d: digest.Of(content), addrs: map[shard.NodeID]string{}, stop: func() (err error) {
		stop()
		for range started {
			err = errors.Join(err, <-ended)
		}
		return err
	}}
	start := func(data string) error {
		s, err := blob.Open(store.OS, filepath.Join(data, "blobs"), blob.Options{})
		if err != nil {
			return err
		}
		w, err := s.Create(ctx)
		if err != nil {
			return err
		}
		if _, err := w.Write(content); err != nil {
			return err
		}
		if _, _, err := w.Commit(); err != nil {
			return err
		}
		n, err := node.New(ctx, node.Config{Data: data, Addr: "127.0.0.1:0", Shards: 1})
		if err != nil {
			return err
		}
		started++
		go func() { ended <- n.Run(running) }()
		<-n.Ready()
		c := client.Dial(n.Addr())
		defer c.Close()
		res, err := c.Nodes.ListNodes(ctx, connect.NewRequest(&wattlev1.ListNodesRequest{}))
		if err != nil {
			return err
		}
		h.addrs[shard.NodeID(n.ID())] = res.Msg.Nodes[0].PeerAddr
		h.names = append(h.names, n.ID())
		return nil
	}
	for i := range 3 {
		if err := start(filepath.Join(dir, fmt.Sprint("data", i))); err != nil {
			return nil, errors.Join(err, h.stop())
		}
	}
	return h, nil
}

// fetch brings the blob into an empty folder.
func (h *having) fetch(ctx context.Context, dir string, from int) error {
	s, err := blob.Open(store.OS, dir, blob.Options{})
	if err != nil {
		return err
	}
	clients := peers.NewClients(func(id shard.NodeID) (string, bool) { a, ok := h.addrs[id]; return a, ok })
	defer clients.Close()
	f := transfer.New(transfer.Config{Store: s, Nodes: peers.Holders{Peers: clients}, Around: func() []string { return h.names[:from] }})
	return f.Fetch(ctx, h.d)
}

// download stores what is at an address in a file.
func download(ctx context.Context, url, to string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, res.Body)
	return errors.Join(err, f.Sync(), f.Close())
}

// idle is what a node costs that has a replica of every shard and that nobody asks anything.
func idle(ctx context.Context, rounds int) (rows []Row, err error) {
	err = withFleet(ctx, 1, func(one *fleet) error {
		return withFleet(ctx, 3, func(three *fleet) error {
			rows, err = idleCost(ctx, rounds, one, three)
			return err
		})
	})
	for i := range rows {
		rows[i].Bench = "cluster"
	}
	return rows, err
}
