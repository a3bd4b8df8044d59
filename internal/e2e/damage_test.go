package e2e

import (
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/client"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/testdata"
)

// lived returns the disk of a node that was killed after it had done a bit of everything, and what it had told its
// clients. Its databases have tables, logs that were not flushed, and logs that were trimmed.
func lived(t *testing.T) (*vfs.MemFS, promise) {
	t.Helper()
	s := &sweep{mem: vfs.NewCrashableMem(), led: newLedger(), rng: rand.New(rand.NewPCG(1, 1))}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	n, err := begin(crashConfig(s.mem))
	must(err)
	must(s.push(t.Context(), n, "svc", 1, "mapreduce"))
	_, err = n.Registry.SetAlias(t.Context(), connect.NewRequest(&wattlev1.SetAliasRequest{Service: "svc", Alias: "stable", Number: 1}))
	must(err)
	s.led.learn("alias stable", answers("svc@stable/echo", "aliased"))
	must(s.job(t.Context(), n, "big job", bigSpec, wantBig))
	must(n.stop())
	n, err = begin(crashConfig(s.mem))
	must(err)
	must(s.job(t.Context(), n, "shuffle job", shuffleSpec, wantShuffle))
	must(s.job(t.Context(), n, "long job", longSpec(), wantLong))
	must(s.push(t.Context(), n, "svc", 2, "echo"))
	// The end of a log that a crash tore looks like one that was damaged, so nothing hangs on the last record.
	_, _, err = n.Push(t.Context(), "extra", testdata.Wasm("noop"), client.PushOptions{})
	must(err)
	var left *vfs.MemFS
	p := s.led.around(func() { left = cloneFS(s.mem) })
	must(n.stop())
	p.idle = false // what is lost may be made again
	return left, p
}

func cloneFS(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// filesBelow lists every file of a file system below dir.
func filesBelow(t *testing.T, fs vfs.FS, dir string) (all []string) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		p := path.Join(dir, n)
		info, err := fs.Stat(p)
		switch {
		case err != nil:
			t.Fatal(err)
		case info.IsDir():
			all = append(all, filesBelow(t, fs, p)...)
		default:
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

// verdict judges a start on a damaged disk. It must be refused with an error that says where and what to do, or
// everything acknowledged must still be there; of a blob alone it may turn out when it is asked for.
func verdict(fs vfs.FS, p promise, blob bool) (refused error, err error) {
	err = inspect(fs, p)
	f := fault.As(err)
	switch {
	case err == nil:
		return nil, nil
	case f != nil && f.Reason == "damaged_store":
		if !strings.Contains(f.Message, crashData) || f.Help == "" {
			return nil, fmt.Errorf("the error does not say where or what to do: %w", err)
		}
		return f, nil
	case client.Reason(err) == "damaged_store" || blob && client.Reason(err) == "damaged_blob":
		return err, nil
	}
	return nil, err
}

// damages tries some damage on clones of the disk, and hands the verdicts out in order.
func damages[T any](fs *vfs.MemFS, p promise, all []T, do func(vfs.FS, T), blob func(T) bool, tell func(T, error, error)) {
	type result struct{ refused, err error }
	results := make([]result, len(all))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 2)
	for i, d := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c := cloneFS(fs)
			do(c, d)
			results[i].refused, results[i].err = verdict(c, p, blob(d))
		})
	}
	wg.Wait()
	for i, d := range all {
		tell(d, results[i].refused, results[i].err)
	}
}

type flip struct {
	file string
	at   int64
	of   int64
}

func (f flip) do(t *testing.T, fs vfs.FS) {
	file, err := fs.OpenReadWrite(f.file, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, f.at); err != nil {
		t.Error(err)
	}
	b[0] ^= 1 << (f.at % 8)
	if _, err := file.WriteAt(b, f.at); err != nil {
		t.Error(err)
	}
}

// TestFlippedBits damages every file of a data directory at many places, one at a time.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	fs, p := lived(t)
	rng := rand.New(rand.NewPCG(*powerlossSeed, 3))
	var flips []flip
	for _, f := range filesBelow(t, fs, crashData) {
		info, err := fs.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size := info.Size()
		places := 3
		switch k := site(f); {
		case size == 0:
			continue
		case *powerlossAll:
			places = 60
		case k == "log WAL" || strings.HasSuffix(k, "MANIFEST"):
			places = 25
		}
		flips = append(flips, flip{f, size / 2, size})
		for range places {
			flips = append(flips, flip{f, rng.Int64N(size), size})
		}
	}
	kinds := map[string][2]int{}
	isBlob := func(f flip) bool { return strings.Contains(f.file, "/blobs/") }
	damages(fs, p, flips, func(c vfs.FS, f flip) { f.do(t, c) }, isBlob, func(f flip, refused, err error) {
		k := kinds[site(f.file)]
		if k[0]++; refused != nil {
			k[1]++
		}
		kinds[site(f.file)] = k
		if err != nil {
			t.Errorf("%s: bit flipped in byte %d of %d: %v", f.file, f.at, f.of, err)
		}
	})
	for kind, n := range kinds {
		t.Logf("%s: %d flips, %d found out", kind, n[0], n[1])
	}
	for _, kind := range []string{"log WAL", "log MANIFEST", "log table", "state MANIFEST", "state table", "WAL", "FORMAT"} {
		if kinds[kind][1] == 0 {
			t.Errorf("no damage of %s was found out: %v", kind, kinds[kind])
		}
	}
}

// TestMissingFiles takes away every file and folder of a data directory, one at a time.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	fs, p := lived(t)
	all := filesBelow(t, fs, crashData)
	for _, dir := range []string{"log", "state", "blobs"} {
		all = append(all, path.Join(crashData, dir))
	}
	refusals := map[string]bool{}
	isBlob := func(f string) bool { return strings.Contains(f, "/blobs") }
	damages(fs, p, all, func(c vfs.FS, f string) {
		if err := c.RemoveAll(f); err != nil {
			t.Error(err)
		}
	}, isBlob, func(f string, refused, err error) {
		refusals[site(f)] = refusals[site(f)] || refused != nil
		t.Logf("without %s: %v", f, refused)
		if err != nil && !(isBlob(f) && client.Reason(err) == "unknown_blob") {
			t.Errorf("without %s: %v", f, err)
		}
	})
	for _, kind := range []string{"FORMAT", "WAL", "log directory", "log WAL", "log MANIFEST", "log marker", "log table", "state directory", "state MANIFEST", "state marker", "state table"} {
		if !refusals[kind] {
			t.Errorf("a missing %s was not found out", kind)
		}
	}
}
