package shuffle

import (
	"bytes"
	"context"
	"errors"
	"hash/maphash"
	"io"

	"github.com/wattlehq/wattle/internal/fault"
)

// Combine shrinks the values of keys. It reads the ABI's groups stream to its end and emits batches of records: keys it
// was given, in ascending order. It may be called many times, also with what it emitted before, and
// must give the same whether or not it is. A batch may be reused once emit returns. An error of
// emit must end it.
type Combine func(ctx context.Context, groups io.Reader, emit func(batch []byte) error) error

// maxAhead is how many keys a combiner may read before it emits one of them for the check that it was given
// them to be complete. Beyond it, 8 bytes for each would be too much; order and partition are still checked.
const maxAhead = 1 << 18

// combining checks one call of a combiner.
type combining struct {
	part  uint32
	parts uint32
	seed  maphash.Seed
	out   *groupWriter
	stats *Stats

	// ahead are the hashes of the keys given and not yet passed.
	ahead   []uint64
	head    int
	lenient bool
	last    []byte
	any     bool
	failed  error
}

// combineAll runs the combiner on each partition of src and writes what it emits to out.
func combineAll(ctx context.Context, combine Combine, parts uint32, src groups, out *groupWriter, stats *Stats) error {
	la := &lookahead{groups: src}
	seed := maphash.MakeSeed()
	for {
		part, _, err := la.peek()
		if err == io.EOF {
			return out.end()
		}
		if err != nil {
			return err
		}
		c := &combining{part: part, parts: parts, seed: seed, out: out, stats: stats}
		if err := c.run(ctx, combine, la); err != nil {
			return err
		}
	}
}

func (c *combining) run(ctx context.Context, combine Combine, la *lookahead) error {
	r := &pieceReader{next: (&groupStream{src: &onePart{la, c}}).next}
	err := combine(ctx, r, func(batch []byte) error {
		if c.failed == nil {
			c.failed = c.emit(batch)
		}
		return c.failed
	})
	// What went wrong here says more than what the combiner made of it.
	switch {
	case c.failed != nil:
		return c.failed
	case r.err != nil && r.err != io.EOF:
		return r.err
	case err != nil:
		return err
	}
	var one [1]byte
	if _, err := r.Read(one[:]); err == nil {
		return badCombiner("it ended before it had read all keys")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	c.stats.Combines++
	return nil
}

func (c *combining) emit(batch []byte) error {
	for rec, err := range DecodeRecords(batch) {
		if err != nil {
			return err
		}
		if !c.any || !bytes.Equal(rec.Key, c.last) {
			if err := c.check(rec.Key); err != nil {
				return err
			}
			c.last, c.any = append(c.last[:0], rec.Key...), true
		}
		c.stats.CombineOut++
		if err := c.out.record(c.part, rec.Key, rec.Value); err != nil {
			return err
		}
	}
	return nil
}

func (c *combining) check(key []byte) error {
	if c.any && bytes.Compare(key, c.last) < 0 {
		return badCombiner("it emitted the key %.80q after %.80q", key, c.last)
	}
	if c.lenient {
		if Partition(key, c.parts) != c.part {
			return badCombiner("it emitted the key %.80q, which it was not given", key)
		}
		return nil
	}
	hash := maphash.Bytes(c.seed, key)
	for c.head < len(c.ahead) {
		c.head++
		if c.ahead[c.head-1] == hash {
			return nil
		}
	}
	return badCombiner("it emitted the key %.80q, which it was not given", key)
}

func (c *combining) given(key []byte) {
	if c.lenient {
		return
	}
	if c.head == len(c.ahead) {
		c.ahead, c.head = c.ahead[:0], 0
	}
	if len(c.ahead)-c.head >= maxAhead {
		c.ahead, c.head, c.lenient = nil, 0, true
		return
	}
	if len(c.ahead) == cap(c.ahead) && c.head > len(c.ahead)/2 {
		c.ahead = c.ahead[:copy(c.ahead, c.ahead[c.head:])]
		c.head = 0
	}
	c.ahead = append(c.ahead, maphash.Bytes(c.seed, key))
}

func badCombiner(format string, args ...any) *fault.Error {
	e := fault.New(fault.Guest, "bad_combiner", "the combine function does not keep the rules: "+format, args...)
	return e.Hint("emit only keys that were read, in the order they were read")
}

// onePart is the groups of one partition.
type onePart struct {
	la *lookahead
	c  *combining
}

func (o *onePart) group() (uint32, []byte, error) {
	part, key, err := o.la.peek()
	if err != nil {
		return 0, nil, err
	}
	if part != o.c.part {
		return 0, nil, io.EOF
	}
	o.c.given(key)
	return o.la.group()
}

func (o *onePart) values() ([]byte, int64, error) {
	piece, begun, err := o.la.values()
	o.c.stats.CombineIn += begun
	return piece, begun, err
}
