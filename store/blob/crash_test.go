package blob

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/store"
)

const crashDir = "data/blobs"

// crashContents are what the crash tests store: two blobs in one folder, an empty one, and one of two chunks.
func crashContents() [][]byte {
	first := []byte("first")
	second := []byte("second")
	for i := 0; digest.Of(second)[0] != digest.Of(first)[0]; i++ {
		second = fmt.Appendf(nil, "second %d", i)
	}
	return [][]byte{first, nil, bytes.Repeat([]byte("0123456789abcdef"), ChunkSize/16+9), second}
}

// life stores the contents, the last of them as an upload too, and tells done which are durable.
func life(fsys store.FS, contents [][]byte, done func([]byte)) error {
	s, err := Open(fsys, crashDir, Options{})
	if err != nil {
		return err
	}
	for _, c := range contents {
		if _, _, err := s.Put(context.Background(), bytes.NewReader(c)); err != nil {
			return err
		}
		done(c)
	}
	up := []byte("an upload")
	if len(contents) > 2 {
		up = bytes.Repeat([]byte("upload"), ChunkSize/4)
	}
	if err := uploadAll(s, up); err != nil {
		return err
	}
	done(up)
	return nil
}

func uploadAll(s *Store, data []byte) error {
	d := digest.Of(data)
	var chunks []digest.Digest
	for off := 0; off < len(data); off += ChunkSize {
		chunks = append(chunks, digest.Of(data[off:min(off+ChunkSize, len(data))]))
	}
	missing, err := s.StartUpload(d, int64(len(data)), chunks)
	if err != nil {
		return err
	}
	for _, i := range missing {
		if err := s.PutChunk(d, i, data[i*ChunkSize:min((i+1)*ChunkSize, len(data))]); err != nil {
			return err
		}
	}
	return s.FinishUpload(context.Background(), d)
}

// check opens what a crash left: everything durable must be there, and nothing may read wrong.
func check(fsys store.FS, durable [][]byte) error {
	s, err := Open(fsys, crashDir, Options{})
	if err != nil {
		return err
	}
	for _, c := range durable {
		d := digest.Of(c)
		got, err := readAll(s, d)
		if err != nil {
			return fmt.Errorf("durable blob of %d bytes: %w", len(c), err)
		}
		if !bytes.Equal(got, c) {
			return fmt.Errorf("blob of %d bytes reads wrong", len(c))
		}
	}
	for i := range s.fans {
		for d := range s.fans[i].entries {
			if got, err := readAll(s, d); err != nil || digest.Of(got) != d {
				return fmt.Errorf("found blob %s: %w", d, err)
			}
		}
	}
	if names, _ := fsys.List(path.Join(crashDir, tmpDir)); len(names) > 0 {
		return fmt.Errorf("temporary files stayed: %v", names)
	}
	return nil
}

func readAll(s *Store, d digest.Digest) ([]byte, error) {
	b, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b.Reader(0, b.Size()))
}

func crashes(n uint64) []vfs.CrashCloneCfg {
	rng := rand.New(rand.NewPCG(n, 7))
	return []vfs.CrashCloneCfg{{}, {UnsyncedDataPercent: 100, RNG: rng}, {UnsyncedDataPercent: 50, RNG: rng}}
}

func TestCrashAtEveryOperation(t *testing.T) {
	t.Parallel()
	mem := vfs.NewCrashableMem()
	var durable [][]byte
	var ops uint64
	h := &hookFS{FS: mem}
	h.hook = func(op, path string) (bool, error) {
		ops++
		for _, cfg := range crashes(ops) {
			if err := check(mem.CrashClone(cfg), durable); err != nil {
				t.Errorf("crash before operation %d (%s %s), %d%% unsynced kept: %v", ops, op, path, cfg.UnsyncedDataPercent, err)
			}
		}
		return false, nil
	}
	if err := life(h, crashContents(), func(c []byte) { durable = append(durable, c) }); err != nil {
		t.Fatal(err)
	}
	for _, cfg := range crashes(0) {
		if err := check(mem.CrashClone(cfg), durable); err != nil {
			t.Errorf("crash at the end: %v", err)
		}
	}
	if len(durable) != 5 || ops < 20 {
		t.Fatalf("only %d blobs and %d operations", len(durable), ops)
	}
}

// TestEverySyncBearsLoad leaves out one sync after the other: each must lose something in a crash.
func TestEverySyncBearsLoad(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		mem := vfs.NewCrashableMem()
		syncs, left := 0, ""
		h := &hookFS{FS: mem, hook: func(op, path string) (bool, error) {
			if op != "sync" {
				return false, nil
			}
			if syncs++; syncs == n {
				left = path
				return true, nil
			}
			return false, nil
		}}
		var durable [][]byte
		var lost error
		done := func(c []byte) {
			durable = append(durable, c)
			lost = errors.Join(lost, check(mem.CrashClone(vfs.CrashCloneCfg{}), durable))
		}
		if err := life(h, crashContents(), done); err != nil {
			t.Fatal(err)
		}
		if left == "" {
			if n < 12 {
				t.Fatalf("only %d syncs", n-1)
			}
			return
		}
		if lost == nil {
			t.Errorf("sync %d, of %s, makes no difference", n, left)
		}
	}
}

// TestRestart kills the process, but not the machine, at every operation; the next process does the same again,
// and then the machine fails. What the second one acknowledged must be there although the first one
// may have left names that were never synced. Each kind of sync of the second process must matter.
func TestRestart(t *testing.T) {
	t.Parallel()
	errKilled := errors.New("killed")
	contents := crashContents()[:2]
	// run returns how the second process' syncs were called, and whether all was well with sync skip left out.
	run := func(kill, skip int) (killed bool, syncs []string, err error) {
		mem := vfs.NewCrashableMem()
		ops := 0
		first := &hookFS{FS: mem, hook: func(string, string) (bool, error) {
			if ops++; ops >= kill {
				return false, errKilled
			}
			return false, nil
		}}
		killed = life(first, contents, func([]byte) {}) != nil
		second := &hookFS{FS: mem, hook: func(op, p string) (bool, error) {
			if op != "sync" {
				return false, nil
			}
			if strings.Contains(p, tmpDir) {
				p = tmpDir
			}
			syncs = append(syncs, p)
			return len(syncs) == skip, nil
		}}
		var durable [][]byte
		if err := life(second, contents, func(c []byte) { durable = append(durable, c) }); err != nil {
			t.Fatal(err)
		}
		return killed, syncs, check(mem.CrashClone(vfs.CrashCloneCfg{}), durable)
	}
	matters := map[string]bool{}
	for kill := 1; ; kill++ {
		killed, syncs, err := run(kill, 0)
		if err != nil {
			t.Errorf("killed at operation %d: %v", kill, err)
		}
		for i, p := range syncs {
			_, _, err := run(kill, i+1)
			matters[p] = matters[p] || err != nil
		}
		if !killed {
			break
		}
	}
	for p, ok := range matters {
		if !ok {
			t.Errorf("no sync of %s matters after a restart", p)
		}
	}
}
