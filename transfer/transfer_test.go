package transfer

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store/blob"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// town is other nodes, each with its own way to answer.
type town struct {
	mu    sync.Mutex
	nodes map[string]*neighbour
	// reads are the chunks that were asked for.
	reads map[string]int
	// givers are nodes that must take part in a download, and late those of them of which nobody has read yet: until
	// somebody has, no giver answers, or the quickest could give everything.
	givers []string
	late   map[string]bool
	met    chan struct{} // closed when nobody is late
}

func (t *town) expect(givers []string) {
	t.givers, t.late, t.met = givers, map[string]bool{}, make(chan struct{})
	for _, n := range givers {
		t.late[n] = true
	}
}

// meet waits, for a giver, until all givers have come.
func (t *town) meet(ctx context.Context, node string) error {
	if !slices.Contains(t.givers, node) {
		return nil
	}
	t.mu.Lock()
	if t.late[node] {
		if delete(t.late, node); len(t.late) == 0 {
			close(t.met)
		}
	}
	t.mu.Unlock()
	select {
	case <-t.met:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// neighbour is a node: it has blobs, and may spoil what it answers.
type neighbour struct {
	blobs    map[digest.Digest][]byte
	describe func(Description) (Description, error)
	read     func(chunk int64, b []byte) ([]byte, error)
}

func describe(b []byte) Description {
	is := Description{Size: int64(len(b))}
	for c := range slices.Chunk(b, blob.ChunkSize) {
		is.Chunks = append(is.Chunks, digest.Of(c))
	}
	return is
}

func (t *town) find(node string, d digest.Digest) (*neighbour, []byte, error) {
	n := t.nodes[node]
	if b, ok := n.blobs[d]; ok {
		return n, b, nil
	}
	return nil, nil, fault.New(fault.NotFound, "unknown_blob", "not here")
}

func (t *town) Describe(_ context.Context, node string, d digest.Digest) (Description, error) {
	n, b, err := t.find(node, d)
	if err != nil {
		return Description{}, err
	}
	is := describe(b)
	if n.describe != nil {
		return n.describe(is)
	}
	return is, nil
}

func (t *town) Read(ctx context.Context, node string, d digest.Digest, off, size int64) ([]byte, error) {
	n, b, err := t.find(node, d)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	t.reads[node]++
	t.mu.Unlock()
	if err := t.meet(ctx, node); err != nil {
		return nil, err
	}
	part := slices.Clone(b[off : off+size])
	if n.read != nil {
		return n.read(off/blob.ChunkSize, part)
	}
	return part, ctx.Err()
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// newTown returns a fetcher for three nodes that have some bytes, and what it keeps.
func newTown(t *testing.T, b []byte) (*town, *Fetcher, *blob.Store, digest.Digest) {
	t.Helper()
	d := digest.Of(b)
	w := &town{nodes: map[string]*neighbour{}, reads: map[string]int{}}
	for _, n := range []string{"a", "b", "c"} {
		w.nodes[n] = &neighbour{blobs: map[digest.Digest][]byte{d: b}}
	}
	s, err := blob.Open(vfs.NewMem(), "blobs", blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return w, New(Config{Store: s, Nodes: w, Around: func() []string { return slices.Sorted(maps.Keys(w.nodes)) }}), s, d
}

func same(t *testing.T, s *blob.Store, d digest.Digest, want []byte) {
	t.Helper()
	b, err := s.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	got, err := io.ReadAll(b.Reader(0, b.Size()))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came of %d, %v", len(got), len(want), err)
	}
}

var errAway = errors.New("connection reset")

func TestFetch(t *testing.T) {
	t.Parallel()
	const chunks = 9
	away := func(int64, []byte) ([]byte, error) { return nil, errAway }
	spoil := func(_ int64, b []byte) ([]byte, error) {
		b[len(b)/2] ^= 1
		return b, nil
	}
	for _, c := range []struct {
		name   string
		size   int
		change func(w *town, d digest.Digest)
		// used are the nodes that must have given something; reason is why it fails.
		used   []string
		reason string
	}{
		{name: "from all", size: chunks*blob.ChunkSize + 5, used: []string{"a", "b", "c"}},
		{name: "nothing", size: 0},
		{name: "a chunk", size: blob.ChunkSize},
		{name: "one has it", size: chunks * blob.ChunkSize, used: []string{"b"}, change: func(w *town, d digest.Digest) {
			delete(w.nodes["a"].blobs, d)
			delete(w.nodes["c"].blobs, d)
		}},
		{name: "none has it", size: 10, reason: "unknown_blob", change: func(w *town, d digest.Digest) {
			for _, n := range w.nodes {
				delete(n.blobs, d)
			}
		}},
		{name: "two go away", size: chunks * blob.ChunkSize, used: []string{"c"}, change: func(w *town, _ digest.Digest) {
			w.nodes["a"].read, w.nodes["b"].read = away, away
		}},
		{name: "all go away", size: chunks * blob.ChunkSize, reason: "blob_interrupted", change: func(w *town, _ digest.Digest) {
			for _, n := range w.nodes {
				n.read = away
			}
		}},
		{name: "two are damaged", size: chunks * blob.ChunkSize, used: []string{"b"}, change: func(w *town, _ digest.Digest) {
			w.nodes["a"].read, w.nodes["c"].read = spoil, spoil
		}},
		{name: "short answers", size: chunks * blob.ChunkSize, used: []string{"b", "c"}, change: func(w *town, _ digest.Digest) {
			w.nodes["a"].read = func(_ int64, b []byte) ([]byte, error) { return b[1:], nil }
		}},
		{name: "a hiccup", size: chunks * blob.ChunkSize, used: []string{"a"}, change: func(w *town, d digest.Digest) {
			delete(w.nodes["b"].blobs, d)
			delete(w.nodes["c"].blobs, d)
			first := sync.OnceValue(func() error { return errAway })
			var once sync.Once
			w.nodes["a"].read = func(_ int64, b []byte) (_ []byte, err error) {
				once.Do(func() { err = first() })
				return b, err
			}
		}},
		{name: "a liar is asked first", size: chunks * blob.ChunkSize, used: []string{"b", "c"}, change: func(w *town, d digest.Digest) {
			// What it has under the name are other bytes, in good order.
			other := random(chunks * blob.ChunkSize)
			w.nodes["a"].blobs[d] = other
			slow := make(chan struct{})
			w.nodes["a"].describe = func(is Description) (Description, error) { close(slow); return is, nil }
			for _, n := range []string{"b", "c"} {
				w.nodes[n].describe = func(is Description) (Description, error) { <-slow; return is, nil }
			}
		}},
		{name: "nonsense about sizes", size: chunks * blob.ChunkSize, used: []string{"b", "c"}, change: func(w *town, _ digest.Digest) {
			w.nodes["a"].describe = func(is Description) (Description, error) { is.Size = -7; return is, nil }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := random(c.size)
			w, f, s, d := newTown(t, b)
			if c.change != nil {
				c.change(w, d)
			}
			w.expect(c.used)
			err := f.Fetch(t.Context(), d, "a")
			if (err == nil) != (c.reason == "") || err != nil && fault.Reason(err) != c.reason {
				t.Fatalf("%v, want %q", err, c.reason)
			}
			if err != nil {
				return
			}
			same(t, s, d, b)
			for _, n := range c.used {
				if w.reads[n] == 0 {
					t.Errorf("%s gave nothing: %v", n, w.reads)
				}
			}
		})
	}
}

// What came before an interruption is not asked for again.
func TestFetchResumes(t *testing.T) {
	t.Parallel()
	const chunks = 12
	b := random(chunks * blob.ChunkSize)
	w, f, s, d := newTown(t, b)
	delete(w.nodes["b"].blobs, d)
	delete(w.nodes["c"].blobs, d)
	ctx, cancel := context.WithCancel(t.Context())
	given, whole := 0, false
	w.nodes["a"].read = func(_ int64, b []byte) ([]byte, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if given++; given > chunks/2 && !whole {
			cancel()
			return nil, errAway
		}
		return b, nil
	}
	if err := f.Fetch(ctx, d); err == nil {
		t.Fatal("it was not interrupted")
	}
	w.mu.Lock()
	whole = true
	w.reads = map[string]int{}
	w.mu.Unlock()
	if err := f.Fetch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	same(t, s, d, b)
	if w.reads["a"] > chunks/2+1 {
		t.Errorf("%d of %d chunks were read again", w.reads["a"], chunks)
	}
}

// Many who want the same blob at once have it fetched once, and one who gives up does not take it from the others.
func TestFetchOnce(t *testing.T) {
	t.Parallel()
	b := random(8 * blob.ChunkSize)
	w, f, s, d := newTown(t, b)
	begun, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	for _, n := range w.nodes {
		n.read = func(_ int64, b []byte) ([]byte, error) {
			once.Do(func() { close(begun) })
			<-goOn
			return b, nil
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Copy(ctx, d); err == nil {
			t.Error("the first one gave up and got it")
		}
	})
	<-begun
	for range 5 {
		wg.Go(func() {
			if err := f.Fetch(t.Context(), d); err != nil {
				t.Error(err)
			}
		})
	}
	cancel()
	close(goOn)
	wg.Wait()
	same(t, s, d, b)
}
