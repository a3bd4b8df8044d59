package shard

import (
	"encoding/binary"
	"iter"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/store"
)

const prefixLen = 4

// slotPrefix begins every key of a machine in a slot.
func slotPrefix(slot machine.Slot, id machine.ID) []byte {
	return append(binary.BigEndian.AppendUint16(append(make([]byte, 0, prefixLen), 0x02), uint16(slot)), byte(id))
}

// slotRange bounds the keys of all machines in a slot.
func slotRange(slot machine.Slot) (lower, upper []byte) {
	return slotPrefix(slot, 0)[:prefixLen-1], slotPrefix(slot+1, 0)[:prefixLen-1]
}

// slotRuns are the ranges of keys of slots, in order: neighbours share one.
func slotRuns(slots []machine.Slot) (runs [][2][]byte) {
	for i, s := range slots {
		lower, upper := slotRange(s)
		if i > 0 && slots[i-1]+1 == s {
			runs[len(runs)-1][1] = upper
			continue
		}
		runs = append(runs, [2][]byte{lower, upper})
	}
	return runs
}

// usedSlots yields the slots in which there is something. A shard has many, and most are empty for long.
func usedSlots(r store.Reader, runs [][2][]byte) iter.Seq[machine.Slot] {
	return func(yield func(machine.Slot) bool) {
		for _, run := range runs {
			for next := run[0]; next != nil; {
				var err error
				var slot machine.Slot
				from := next
				next = nil
				for k := range r.Scan(from, run[1], &err) {
					slot = machine.Slot(binary.BigEndian.Uint16(k[1:]))
					_, next = slotRange(slot)
					break
				}
				must(err)
				if next != nil && !yield(slot) {
					return
				}
			}
		}
	}
}

func readSlot(r store.Reader, slot machine.Slot, id machine.ID, fn func(machine.Reader) error) (err error) {
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
	r      store.Reader
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

// tx is a slotReader that writes into the batch it reads, and into the shard's hash.
type tx struct {
	slotReader
	b    store.Batch
	hash *xxhash.Digest
}

func (t *tx) Set(key, value []byte) {
	k := t.key(key)
	t.note('s', k, value)
	must(t.b.Set(k, value))
}

func (t *tx) Delete(key []byte) {
	k := t.key(key)
	t.note('d', k, nil)
	must(t.b.Delete(k))
}

func (t *tx) DeleteRange(lower, upper []byte) {
	from, to := t.key(lower), t.bound(upper)
	t.note('r', from, to)
	must(t.b.DeleteRange(from, to))
}

func (t *tx) note(op byte, key, value []byte) {
	var head [9]byte
	head[0] = op
	binary.BigEndian.PutUint32(head[1:], uint32(len(key)))
	binary.BigEndian.PutUint32(head[5:], uint32(len(value)))
	_, _ = t.hash.Write(head[:])
	_, _ = t.hash.Write(key)
	_, _ = t.hash.Write(value)
}

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
