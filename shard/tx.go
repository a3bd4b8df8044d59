package shard

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

// reader is what batches and snapshots have in common.
type reader interface {
	Get(key []byte) ([]byte, bool, error)
	Scan(lower, upper []byte, err *error) iter.Seq2[[]byte, []byte]
}

const prefixLen = 4

// slotPrefix begins every key of a machine in a slot.
func slotPrefix(slot machine.Slot, id machine.ID) []byte {
	return append(binary.BigEndian.AppendUint16(append(make([]byte, 0, prefixLen), 0x02), uint16(slot)), byte(id))
}

func readSlot(r reader, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			b, ok := p.(*machine.Broken)
			if !ok {
				panic(p)
			}
			err = b
		}
	}()
	return fn(&slotReader{r: r, prefix: slotPrefix(slot, id)})
}

// slotReader is a machine's view of its part of a slot.
type slotReader struct {
	r      reader
	prefix []byte
}

func (s *slotReader) key(k []byte) []byte {
	return append(append(make([]byte, 0, len(s.prefix)+len(k)), s.prefix...), k...)
}

// bound is key, with nil for the end of the machine's part.
func (s *slotReader) bound(k []byte) []byte {
	if k != nil {
		return s.key(k)
	}
	end := slices.Clone(s.prefix)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end
		}
	}
}

func (s *slotReader) Get(key []byte) ([]byte, bool) {
	v, ok, err := s.r.Get(s.key(key))
	must(err)
	return v, ok
}

func (s *slotReader) Scan(lower, upper []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func([]byte, []byte) bool) {
		var err error
		for k, v := range s.r.Scan(s.key(lower), s.bound(upper), &err) {
			if !yield(k[prefixLen:], v) {
				break
			}
		}
		must(err)
	}
}

// tx is a slotReader that writes into the batch it reads.
type tx struct {
	slotReader
	b *store.Batch
}

func (t *tx) Set(key, value []byte)           { must(t.b.Set(t.key(key), value)) }
func (t *tx) Delete(key []byte)               { must(t.b.Delete(t.key(key))) }
func (t *tx) DeleteRange(lower, upper []byte) { must(t.b.DeleteRange(t.key(lower), t.bound(upper))) }

// machines yields the machines in a fixed order.
func (e *Engine) machines() iter.Seq2[machine.ID, machine.Machine] {
	return func(yield func(machine.ID, machine.Machine) bool) {
		for _, id := range slices.Sorted(maps.Keys(e.cfg.Machines)) {
			if !yield(id, e.cfg.Machines[id]) {
				return
			}
		}
	}
}
