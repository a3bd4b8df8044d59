// Package machinetest holds the state of one machine in memory, for tests of machines.
//
// It is stricter than a real store: slices handed out are spoilt when the call ends, so that a machine
// that keeps one fails at once instead of rarely. It does not replicate, persist or check determinism.
// The caller drives a machine with Apply, or calls End itself after each use of the Tx.
package machinetest

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/wattlehq/wattle/internal/machine"
)

type pair struct{ key, value []byte }

// lent is a slice a machine was shown, with what it must still hold.
type lent struct{ shown, want []byte }

// Tx is a machine's part of one slot: a sorted map. The zero value is empty and ready to use. It is not
// safe for concurrent use, and must not be copied after its first use.
type Tx struct {
	pairs []pair
	lent  []lent
}

var _ machine.Tx = (*Tx)(nil)

// Apply carries out cmd on m and then ends the call, as a shard does.
func (t *Tx) Apply(m machine.Machine, cmd machine.Command) (machine.Result, []machine.Effect) {
	defer t.End()
	return m.Apply(t, cmd)
}

// End says that the call that had the Tx returned: every slice handed out so far is overwritten. It panics
// when the machine changed one of them.
func (t *Tx) End() {
	for _, l := range t.lent {
		if !bytes.Equal(l.shown, l.want) {
			panic(fmt.Sprintf("machinetest: the machine changed a slice it was shown: %q is now %q", l.want, l.shown))
		}
		for i := range l.shown {
			l.shown[i] = 0xdb
		}
	}
	t.lent = t.lent[:0]
}

// Len returns how many pairs there are.
func (t *Tx) Len() int { return len(t.pairs) }

// Clone returns an independent copy.
func (t *Tx) Clone() *Tx {
	c := &Tx{pairs: make([]pair, len(t.pairs))}
	for i, p := range t.pairs {
		c.pairs[i] = pair{bytes.Clone(p.key), bytes.Clone(p.value)}
	}
	return c
}

// Equal tells whether both hold the same pairs.
func (t *Tx) Equal(other *Tx) bool {
	return slices.EqualFunc(t.pairs, other.pairs, func(a, b pair) bool {
		return bytes.Equal(a.key, b.key) && bytes.Equal(a.value, b.value)
	})
}

// Get implements machine.Reader.
func (t *Tx) Get(key []byte) ([]byte, bool) {
	i, ok := t.find(key)
	if !ok {
		return nil, false
	}
	return t.lend(t.pairs[i].value), true
}

// Scan implements machine.Reader. It yields what was there when the loop began, whatever is written meanwhile.
func (t *Tx) Scan(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	lower, upper = bytes.Clone(lower), bytes.Clone(upper)
	return func(yield func([]byte, []byte) bool) {
		from, to := t.span(lower, upper)
		for _, p := range slices.Clone(t.pairs[from:to]) {
			if !yield(t.lend(p.key), t.lend(p.value)) {
				return
			}
		}
	}
}

// Set implements machine.Tx.
func (t *Tx) Set(key, value []byte) {
	p := pair{bytes.Clone(key), append([]byte{}, value...)}
	i, ok := t.find(key)
	if ok {
		t.pairs[i] = p
		return
	}
	t.pairs = slices.Insert(t.pairs, i, p)
}

// Delete implements machine.Tx.
func (t *Tx) Delete(key []byte) {
	if i, ok := t.find(key); ok {
		t.pairs = slices.Delete(t.pairs, i, i+1)
	}
}

// DeleteRange implements machine.Tx.
func (t *Tx) DeleteRange(lower, upper []byte) {
	from, to := t.span(lower, upper)
	t.pairs = slices.Delete(t.pairs, from, to)
}

func (t *Tx) find(key []byte) (int, bool) {
	return slices.BinarySearchFunc(t.pairs, key, func(p pair, k []byte) int { return bytes.Compare(p.key, k) })
}

func (t *Tx) span(lower, upper []byte) (int, int) {
	from, _ := t.find(lower)
	to := len(t.pairs)
	if upper != nil {
		to, _ = t.find(upper)
	}
	return from, max(from, to)
}

func (t *Tx) lend(b []byte) []byte {
	shown := append([]byte{}, b...)
	t.lent = append(t.lent, lent{shown, b})
	return shown
}
