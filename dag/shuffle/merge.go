package shuffle

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/store"
)

// source is one sorted stream to merge: an input of the caller's, or a scratch file.
type source struct {
	r     io.Reader
	input int
	path  string
}

// merger merges sorted streams; the values of a key come in the order of the sources. It holds one frame
// and two keys of each.
type merger struct {
	ctx     context.Context
	readers []*groupReader
	wrap    []func(error) error
	heads   []ranked
	files   []io.Closer
	// heap holds the sources that have a key waiting, the least first.
	heap []int
	// cur are the sources that have the current key, at those whose values are being read.
	cur   []int
	at    int
	ticks int
}

// newMerger opens the sources; inputs are of the given partition. It must be closed, also after an error.
func newMerger(ctx context.Context, sc *scratch, sources []source, part uint32) (*merger, error) {
	m := &merger{ctx: ctx, heads: make([]ranked, len(sources))}
	for i, s := range sources {
		r, wrap := s.r, func(err error) error { return inputError(s.input, err) }
		if s.path != "" {
			f, err := sc.fs.Open(s.path)
			if err != nil {
				return m, fmt.Errorf("open scratch file: %w", err)
			}
			m.files = append(m.files, f)
			r = f
			wrap = func(err error) error {
				if errors.Is(err, errDamaged) || errors.Is(err, io.ErrUnexpectedEOF) {
					return fault.New(fault.Corrupt, "damaged_scratch", "scratch file %s: %w", s.path, err)
				}
				return fmt.Errorf("read scratch file: %w", err)
			}
		}
		g := newGroupReader(r, s.path != "")
		g.part = part
		m.readers = append(m.readers, g)
		m.wrap = append(m.wrap, wrap)
		m.cur = append(m.cur, i)
	}
	return m, nil
}

func (m *merger) close() {
	for _, f := range m.files {
		_ = f.Close()
	}
	m.files = nil
}

func (m *merger) group() (uint32, []byte, error) {
	if m.ticks++; m.ticks&1023 == 1 {
		if err := context.Cause(m.ctx); err != nil {
			return 0, nil, err
		}
	}
	for _, i := range m.cur {
		part, key, err := m.readers[i].group()
		if err == io.EOF {
			continue
		}
		if err != nil {
			return 0, nil, m.wrap[i](err)
		}
		var prefix [8]byte
		copy(prefix[:], key)
		m.heads[i] = ranked{binary.BigEndian.Uint64(prefix[:]), part, uint32(i)}
		m.push(i)
	}
	m.cur, m.at = m.cur[:0], 0
	if len(m.heap) == 0 {
		return 0, nil, io.EOF
	}
	first := m.pop()
	m.cur = append(m.cur, first)
	for len(m.heap) > 0 && m.compare(first, m.heap[0]) == 0 {
		m.cur = append(m.cur, m.pop())
	}
	return m.heads[first].part, m.readers[first].key, nil
}

func (m *merger) values() ([]byte, int64, error) {
	for m.at < len(m.cur) {
		i := m.cur[m.at]
		piece, begun, err := m.readers[i].values()
		if err != nil {
			return nil, 0, m.wrap[i](err)
		}
		if piece != nil {
			return piece, begun, nil
		}
		m.at++
	}
	return nil, 0, nil
}

func (m *merger) compare(a, b int) int {
	x, y := &m.heads[a], &m.heads[b]
	switch {
	case x.part != y.part:
		if x.part < y.part {
			return -1
		}
		return 1
	case x.prefix != y.prefix:
		if x.prefix < y.prefix {
			return -1
		}
		return 1
	default:
		return bytes.Compare(m.readers[a].key, m.readers[b].key)
	}
}

// less orders the heap: by key, then by source.
func (m *merger) less(a, b int) bool {
	c := m.compare(a, b)
	return c < 0 || c == 0 && a < b
}

func (m *merger) push(x int) {
	m.heap = append(m.heap, x)
	i := len(m.heap) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !m.less(x, m.heap[up]) {
			break
		}
		m.heap[i], i = m.heap[up], up
	}
	m.heap[i] = x
}

func (m *merger) pop() int {
	top, n := m.heap[0], len(m.heap)-1
	x := m.heap[n]
	m.heap = m.heap[:n]
	for i := 0; n > 0; {
		down := 2*i + 1
		if down+1 < n && m.less(m.heap[down+1], m.heap[down]) {
			down++
		}
		if down >= n || !m.less(m.heap[down], x) {
			m.heap[i] = x
			break
		}
		m.heap[i], i = m.heap[down], down
	}
	return top
}

// narrow merges neighbours through scratch files until at most fanIn sources are left, each record as few
// times as possible, and returns those in the same order.
func narrow(sources []source, fanIn int, merge func([]source) (source, error)) ([]source, error) {
	sources = append([]source(nil), sources...)
	for i := 0; len(sources) > fanIn; i++ {
		n := min(fanIn, len(sources)-fanIn+1, len(sources)-i)
		if n < 2 {
			i = -1
			continue
		}
		merged, err := merge(sources[i : i+n])
		if err != nil {
			return nil, err
		}
		sources = append(append(sources[:i:i], merged), sources[i+n:]...)
	}
	return sources, nil
}

// InputError says which input of a Merge could not be used: damaged, cut short, unsorted or unreadable.
type InputError struct {
	// Input is its place among the inputs, from 0.
	Input int
	// Err is a *fault.Error of kind Corrupt "damaged_input", or what its reader answered.
	Err error
}

func (e *InputError) Error() string { return fmt.Sprintf("input %d: %v", e.Input, e.Err) }

func (e *InputError) Unwrap() error { return e.Err }

func inputError(input int, err error) error {
	if err == errDamaged || err == io.ErrUnexpectedEOF {
		err = fault.New(fault.Corrupt, "damaged_input", "the segment is damaged: %w", err)
	}
	return &InputError{input, err}
}

// DefaultFanIn is how many inputs are merged at once.
const DefaultFanIn = 128

// MergeConfig are the settings of a Merge. With no more than FanIn inputs the zero value is good.
type MergeConfig struct {
	// FS and Dir are where files are kept while more than FanIn inputs are merged in passes. Dir belongs to this
	// merge alone, need not exist, and is removed.
	FS  store.FS
	Dir string
	// FanIn bounds how many inputs are read at once, each through a buffer of at most 64 KiB; at least 2,
	// default DefaultFanIn.
	FanIn int
	// Combine, if set, shrinks what goes through files. It must be that of the map outputs, and Partitions theirs.
	Combine    Combine
	Partitions uint32
	// Partition is the one being merged; it matters only with Combine.
	Partition uint32
}

// Merged is a groups stream made of many segments. It is not safe for concurrent use.
type Merged struct {
	ctx   context.Context
	cfg   MergeConfig
	src   []source
	sc    scratch
	m     *merger
	r     pieceReader
	stats Stats
	err   error
}

// Merge returns the groups stream of one partition, given its segments of all map outputs: the keys in ascending
// order, each once, with the values in the order of the inputs and, within one, of their arrival. It reads nothing before
// the first Read, and needs memory for one frame of FanIn inputs and for one key of each. A bad input
// gives an *InputError. Close must be called; it does not close the inputs.
func Merge(ctx context.Context, inputs []io.Reader, cfg MergeConfig) *Merged {
	if cfg.FanIn < 2 {
		cfg.FanIn = DefaultFanIn
	}
	g := &Merged{ctx: ctx, cfg: cfg, sc: scratch{fs: cfg.FS, dir: cfg.Dir}}
	for i, r := range inputs {
		g.src = append(g.src, source{r: r, input: i})
	}
	g.r.next = g.next
	return g
}

// Read implements io.Reader.
func (g *Merged) Read(p []byte) (int, error) { return g.r.Read(p) }

// Stats tells what was done so far. It must not be called during a Read.
func (g *Merged) Stats() Stats { return g.stats }

// Close removes the files. Reading afterwards fails.
func (g *Merged) Close() error {
	if g.m != nil {
		g.m.close()
	}
	g.err = errClosed
	g.r.err, g.r.left = errClosed, nil
	return g.sc.clean()
}

var errClosed = errors.New("shuffle: closed")

func (g *Merged) next() ([]byte, error) {
	if g.m == nil {
		if err := g.start(); err != nil {
			return nil, errors.Join(err, g.Close())
		}
		stream := &groupStream{src: counted{g.m, &g.stats}}
		g.r.next = func() ([]byte, error) {
			piece, err := stream.next()
			if err != nil && err != io.EOF {
				g.m.close()
				_ = g.sc.clean()
			}
			return piece, err
		}
	}
	return g.r.next()
}

func (g *Merged) start() error {
	src, err := narrow(g.src, g.cfg.FanIn, g.pass)
	if err != nil {
		return err
	}
	g.m, err = newMerger(g.ctx, &g.sc, src, g.cfg.Partition)
	return err
}

// pass merges some of the sources into a file.
func (g *Merged) pass(part []source) (source, error) {
	path, size, err := g.sc.mergeFiles(g.ctx, part, maxFrame, g.cfg.Partition, func(src groups, out *groupWriter) error {
		if g.cfg.Combine == nil || g.cfg.Partitions == 0 {
			return out.copy(src)
		}
		return combineAll(g.ctx, g.cfg.Combine, g.cfg.Partitions, src, out, &g.stats)
	})
	g.stats.Merges++
	g.stats.SpillBytes += size
	return source{path: path}, err
}

// mergeFiles merges sources into a new file and removes those that are files.
func (s *scratch) mergeFiles(ctx context.Context, part []source, frame int, number uint32, fill func(groups, *groupWriter) error) (string, int64, error) {
	m, err := newMerger(ctx, s, part, number)
	defer m.close()
	if err != nil {
		return "", 0, err
	}
	path, size, err := s.write(frame, func(w *frameWriter) error {
		return fill(m, &groupWriter{w: w, tagged: true})
	})
	if err != nil {
		return "", size, err
	}
	m.close()
	for _, p := range part {
		if p.path != "" {
			_ = s.fs.Remove(p.path)
		}
	}
	return path, size, nil
}

// counted counts what is read.
type counted struct {
	groups
	stats *Stats
}

func (c counted) group() (uint32, []byte, error) {
	part, key, err := c.groups.group()
	if err == nil {
		c.stats.KeysOut++
		c.stats.BytesOut += int64(len(key))
	}
	return part, key, err
}

func (c counted) values() ([]byte, int64, error) {
	piece, begun, err := c.groups.values()
	c.stats.RecordsOut += begun
	c.stats.BytesOut += int64(len(piece))
	return piece, begun, err
}
