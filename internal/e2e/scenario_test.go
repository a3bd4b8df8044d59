package e2e

import (
	"bytes"
	"context"
	varint "encoding/binary"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/client"
	"github.com/wattlehq/wattle/dag"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/testdata"
)

// The outputs of echo stay inline, those of big and their join are blobs.
const bigSpec = `
name: big
stages:
  - {name: first, function: svc@1/echo, items: [one, two, three]}
  - {name: second, function: svc@stable/big, each: first}
  - {name: third, collect: second}
`

func wantBig(got []byte) error {
	var want []byte
	for _, item := range []string{"one", "two", "three"} {
		want = append(want, append([]byte(item), make([]byte, 128<<10-len(item))...)...)
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d bytes are not the result", len(got))
	}
	return nil
}

// Items are batches of records, "a" and "b" with the value "1" each.
const shuffleSpec = `
name: shuffle
stages:
  - {name: map, function: svc@1/map, items: ["\u0001a\u00011\u0001b\u00011", "\u0001b\u00011", "\u0001c\u00011\u0001a\u00011"]}
  - {name: reduce, function: svc@1/reduce, reduce: {stage: map, partitions: 2}}
`

// wantShuffle reads groups: a key after its length, values after their length plus one, then zero.
func wantShuffle(got []byte) error {
	counts := map[string]int{}
	for r := bytes.NewReader(got); r.Len() > 0; {
		n, _ := varint.ReadUvarint(r)
		key := make([]byte, n)
		if _, err := r.Read(key); err != nil {
			return err
		}
		for {
			n, err := varint.ReadUvarint(r)
			if err != nil {
				return err
			}
			if n == 0 {
				break
			}
			counts[string(key)]++
			if v, _ := r.ReadByte(); n != 2 || v != '1' {
				return fmt.Errorf("key %s has a value of %d bytes, %q", key, n-1, v)
			}
		}
	}
	if fmt.Sprint(counts) != "map[a:2 b:2 c:1]" {
		return fmt.Errorf("counted %v", counts)
	}
	return nil
}

const longItems = 24

// longSpec is a job of many small tasks, one after the other.
func longSpec() string {
	return "{name: long, maxParallel: 1, stages: [{name: all, function: svc@1/echo, items: [" + strings.Join(longInput(), ",") + "]}]}"
}

func longInput() (items []string) {
	for i := range longItems {
		items = append(items, fmt.Sprintf("item-%d", i))
	}
	return items
}

func wantLong(got []byte) error {
	if string(got) != strings.Join(longInput(), "") {
		return fmt.Errorf("result is %q", got)
	}
	return nil
}

// play is the scenario: a node's life with everything in it that is acknowledged to clients.
func (s *sweep) play(ctx context.Context) error {
	n, err := s.begin()
	if err != nil {
		return err
	}
	defer func() {
		s.halted.Store(true)
		if n != nil {
			_ = n.stop()
		}
	}()

	if err := s.push(ctx, n, "svc", 1, "mapreduce"); err != nil {
		return err
	}
	alias := &wattlev1.SetAliasRequest{Service: "svc", Alias: "stable", Number: 1}
	if _, err := n.Registry.SetAlias(ctx, connect.NewRequest(alias)); err != nil {
		return err
	}
	s.led.learn("alias stable", answers("svc@stable/echo", "aliased"))
	if err := s.push(ctx, n, "svc", 2, "echo"); err != nil {
		return err
	}
	if err := s.job(ctx, n, "big job", bigSpec, wantBig); err != nil {
		return err
	}

	// A stop in good order flushes the log: its tables and what names them matter from here on.
	if err := n.stop(); err != nil {
		return err
	}
	if n, err = s.begin(); err != nil {
		return err
	}
	s.led.forget("svc@2")
	del := &wattlev1.DeleteVersionRequest{Service: "svc", Number: 2}
	if _, err := n.Registry.DeleteVersion(ctx, connect.NewRequest(del)); err != nil {
		return err
	}
	s.led.learn("svc@2 deleted", refuses("svc@2/echo", "unknown_version"))
	if err := s.job(ctx, n, "shuffle job", shuffleSpec, wantShuffle); err != nil {
		return err
	}

	// The power goes, and the node has to live on with what that left.
	if n, err = s.lose(n); err != nil {
		return err
	}
	if err := s.push(ctx, n, "late", 1, "echo"); err != nil {
		return err
	}
	id, err := s.submit(ctx, n, "long job", longSpec(), wantLong)
	if err != nil {
		return err
	}
	// It is left while it runs.
	watching, enough := context.WithCancel(ctx)
	defer enough()
	_, err = n.Watch(watching, id, func(j *wattlev1.Job) {
		if seen, err := finished(watching, n.Client, id); err == nil && len(seen) > 0 {
			s.led.learn("long job's tasks", stays(id, seen))
		}
		if j.Stages[0].Completed > longItems/2 {
			enough()
		}
	})
	if watching.Err() != nil && ctx.Err() == nil {
		return nil
	}
	return errors.Join(err, errors.New("the long job was over too soon"))
}

// begin starts a node on the disk.
func (s *sweep) begin() (*lifetime, error) {
	cfg := crashConfig(&tapFS{FS: s.mem, tap: s.tap})
	cfg.Fatal = s.fatal
	s.starting.Store(true)
	defer s.starting.Store(false)
	return begin(cfg)
}

// lose crashes the node and starts one on what is left.
func (s *sweep) lose(n *lifetime) (*lifetime, error) {
	s.halted.Store(true)
	left := s.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: s.rng})
	if err := n.stop(); err != nil {
		return nil, err
	}
	s.mem = left
	s.halted.Store(false)
	return s.begin()
}

func (s *sweep) push(ctx context.Context, n *lifetime, service string, number uint64, fixture string) error {
	v, _, err := n.Push(ctx, service, testdata.Wasm(fixture), client.PushOptions{})
	if err != nil {
		return err
	}
	if v.Number != number {
		return fmt.Errorf("version %d of %s, want %d", v.Number, service, number)
	}
	name := fmt.Sprintf("%s@%d", service, number)
	s.led.learn(name, answers(name+"/echo", "called"))
	return nil
}

func (s *sweep) submit(ctx context.Context, n *lifetime, name, text string, want func([]byte) error) (string, error) {
	spec, err := dag.ParseSpec([]byte(text), nil)
	if err != nil {
		return "", err
	}
	s.led.count(1, 0)
	job, err := n.Submit(ctx, spec, name)
	if err != nil {
		return "", err
	}
	s.led.learn(name, runs(job.Id, want))
	return job.Id, nil
}

// job runs a job to its end.
func (s *sweep) job(ctx context.Context, n *lifetime, name, text string, want func([]byte) error) error {
	id, err := s.submit(ctx, n, name, text, want)
	if err != nil {
		return err
	}
	if err := runs(id, want)(ctx, n.Client); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	seen, err := finished(ctx, n.Client, id)
	if err != nil {
		return err
	}
	s.led.learn(name+" over", isOver(id))
	s.led.learn(name+"'s tasks", stays(id, seen))
	s.led.count(0, 1)
	return nil
}
