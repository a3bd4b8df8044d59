package jobs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"google.golang.org/protobuf/proto"

	"github.com/wattlehq/wattle/dag"
	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
)

// resolver knows one function, of kind map.
type resolver struct{}

func (resolver) ResolveFunction(string) (*storev1.PlanFunction, error) {
	return &storev1.PlanFunction{Service: "s", Number: 1, Function: "map", Kind: wattlev1.FunctionKind_FUNCTION_KIND_MAP}, nil
}

type kept map[string][]byte

func (k kept) Put(_ context.Context, r io.Reader) (digest.Digest, int64, error) {
	b, err := io.ReadAll(r)
	d := digest.Of(b)
	k[d.String()] = b
	return d, int64(len(b)), err
}

// readParts decodes a split as docs/abi.md describes it, the way a guest would.
func readParts(t testing.TB, r io.Reader) (all []part, data [][]byte) {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	number := func() uint64 {
		n, k := binary.Uvarint(b)
		if k <= 0 {
			t.Fatalf("no varint in %.20q", b)
		}
		b = b[k:]
		return n
	}
	counted := func() []byte {
		n := number()
		if n > uint64(len(b)) {
			t.Fatalf("%d bytes announced, %d there", n, len(b))
		}
		field := b[:n]
		b = b[n:]
		return field
	}
	for len(b) > 0 {
		p := part{name: string(counted()), offset: int64(number())}
		p.header = counted()
		d := counted()
		p.length = int64(len(d))
		all, data = append(all, p), append(data, d)
	}
	return all, data
}

// randomText has lines of all lengths, none included, with line ends of both kinds, and now and then none at its end.
func randomText(rng *rand.Rand) []byte {
	var b bytes.Buffer
	for range rng.IntN(40) {
		b.WriteString(strings.Repeat(string(rune('a'+rng.IntN(26))), rng.IntN(1<<rng.IntN(8))))
		if rng.IntN(8) == 0 {
			b.WriteByte('\r')
		}
		b.WriteByte('\n')
	}
	if rng.IntN(2) == 0 {
		b.WriteString("no end of line")
	}
	return b.Bytes()
}

// However files are cut into splits, the parts of a file put together are the file without its header, and no line lies in two.
func TestPartsMakeUpFiles(t *testing.T) {
	t.Parallel()
	rounds := 300
	if testing.Short() {
		rounds = 60
	}
	for seed := range uint64(rounds) {
		rng := rand.New(rand.NewPCG(seed, 7))
		dir := t.TempDir()
		files := map[string][]byte{}
		for i := range 1 + rng.IntN(4) {
			name := fmt.Sprintf("%d.txt", i)
			files[name] = randomText(rng)
			if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		in, err := NewInputs([]string{dir}, nil)
		if err != nil {
			t.Fatal(err)
		}
		spec := &wattlev1.FilesInput{Dir: dir, SplitBytes: 1 + rng.Uint64N(300), Whole: rng.IntN(5) == 0, HeaderLines: rng.Uint32N(3)}
		blobs := kept{}
		plan, err := (&dag.Planner{Resolver: resolver{}, Files: in, Blobs: blobs, Partitions: func() uint32 { return 1 }}).Plan(t.Context(), &wattlev1.JobSpec{Stages: []*wattlev1.StageSpec{{
			Name: "a", Function: "s/map", Input: &wattlev1.StageSpec_Files{Files: spec},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		s := plan.Stages[0]
		table := s.Table.Inline
		if s.Table.Digest != "" {
			table = blobs[s.Table.Digest]
		}
		got := map[string][]byte{}
		for i := range s.Tasks {
			entry, err := dag.TableEntry(bytes.NewReader(table), int64(len(table)), s.Tasks, i)
			if err != nil {
				t.Fatal(err)
			}
			split := &storev1.Split{}
			if err := proto.Unmarshal(entry, split); err != nil {
				t.Fatal(err)
			}
			parts, data := readParts(t, in.fileParts(t.Context(), split, ""))
			for j, p := range parts {
				head, body := headerOf(files[p.name], int(spec.HeaderLines))
				if string(p.header) != head {
					t.Errorf("seed %d: %s: header %q, want %q", seed, p.name, p.header, head)
				}
				if want := int64(len(files[p.name]) - len(body) + len(got[p.name])); len(data[j]) > 0 && p.offset != want {
					t.Errorf("seed %d: %s: offset %d, want %d", seed, p.name, p.offset, want)
				}
				got[p.name] = append(got[p.name], data[j]...)
				if d := data[j]; len(d) > 0 && d[len(d)-1] != '\n' && !bytes.Equal(got[p.name], body) {
					t.Errorf("seed %d: %s: a line is cut: ...%q", seed, p.name, d[max(0, len(d)-20):])
				}
			}
		}
		for name, text := range files {
			if _, body := headerOf(text, int(spec.HeaderLines)); !bytes.Equal(got[name], body) {
				t.Errorf("seed %d: %s with %v: got %q, want %q", seed, name, spec, got[name], body)
			}
		}
	}
}

// headerOf is the reference: it splits where the reader of parts seeks.
func headerOf(text []byte, lines int) (header string, body []byte) {
	all := slices.Collect(bytes.Lines(text))
	n := min(lines, len(all))
	header = string(bytes.Join(all[:n], nil))
	header = strings.TrimSuffix(strings.TrimSuffix(header, "\n"), "\r")
	return header, bytes.Join(all[n:], nil)
}

// Parts are the same bytes however little is read at a time, errors come through, and each part is closed once, also the last one.
func TestParts(t *testing.T) {
	t.Parallel()
	make := func(closed *int, broken error) *parts {
		n := 0
		return &parts{next: func() (*part, error) {
			if n++; n > 3 {
				return nil, io.EOF
			}
			text := strings.Repeat("x", 100*(n-1))
			var data io.Reader = strings.NewReader(text + "more than belongs to it")
			if n == 3 && broken != nil {
				data = io.MultiReader(strings.NewReader("xx"), iotest.ErrReader(broken))
			}
			return &part{name: fmt.Sprint(n), offset: int64(n), header: []byte("h"), length: int64(len(text)), data: data, close: func() error { *closed++; return nil }}, nil
		}}
	}
	var closed int
	want, err := io.ReadAll(make(&closed, nil))
	if err != nil || closed != 3 {
		t.Fatalf("%v, closed %d", err, closed)
	}
	if all, data := readParts(t, bytes.NewReader(want)); len(all) != 3 || len(data[2]) != 200 || all[1].name != "2" || all[2].offset != 3 || string(all[0].header) != "h" {
		t.Errorf("%v", all)
	}
	closed = 0
	p := make(&closed, nil)
	if err := iotest.TestReader(p, want); err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil || closed != 3 {
		t.Errorf("%v, closed %d", err, closed)
	}
	// A reader that stops in the middle leaves one part open: Close closes it.
	closed = 0
	p = make(&closed, nil)
	if _, err := io.ReadFull(p, want[:20]); err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	if closed != 2 {
		t.Errorf("closed %d, want the first and the second part", closed)
	}
	broken := errors.New("broken")
	closed = 0
	p = make(&closed, broken)
	if _, err := io.ReadAll(p); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if p.Close(); closed != 3 {
		t.Errorf("closed %d", closed)
	}
}
