package shuffle

import (
	"encoding/binary"
	"iter"

	"github.com/wattlehq/wattle/internal/fault"
)

// Record is one key with one value.
type Record struct{ Key, Value []byte }

// DecodeRecords yields the records of a batch: key and value in turn, each after its length as an unsigned varint.
// The slices are parts of batch. Damage is yielded once, as an error of kind fault.Guest "bad_records", and ends it.
func DecodeRecords(batch []byte) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		for rest := batch; len(rest) > 0; {
			key, value, next, ok := cutRecord(rest)
			if !ok {
				yield(Record{}, badRecords(len(batch)-len(rest)))
				return
			}
			if !yield(Record{key, value}, nil) {
				return
			}
			rest = next
		}
	}
}

// AppendRecord appends a record to a batch.
func AppendRecord(batch, key, value []byte) []byte {
	batch = append(binary.AppendUvarint(batch, uint64(len(key))), key...)
	return append(binary.AppendUvarint(batch, uint64(len(value))), value...)
}

func cutRecord(b []byte) (key, value, rest []byte, ok bool) {
	if key, b, ok = cutBytes(b); ok {
		value, b, ok = cutBytes(b)
	}
	return key, value, b, ok
}

func cutBytes(b []byte) (head, rest []byte, ok bool) {
	// Nearly all lengths are of one byte.
	n, width := uint64(0), 1
	if len(b) > 0 && b[0] < 0x80 {
		n = uint64(b[0])
	} else if n, width = binary.Uvarint(b); width <= 0 {
		return nil, nil, false
	}
	b = b[width:]
	if n > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:n:n], b[n:], true
}

func badRecords(at int) *fault.Error {
	return fault.New(fault.Guest, "bad_records", "the batch of records is malformed at byte %d", at).
		Hint("emit key and value in turn, each after its length as an unsigned varint")
}

// Partition tells which of n partitions a key belongs to. It is FNV-1a of 64 bits modulo n, for good: the
// outputs of tasks that ran on nodes of different releases meet in one reduce. FNV-1a because it is a few
// lines in any language, so that whoever reads the data outside finds a key's partition, and
// because it is only computed once for each distinct key, so its speed does not matter.
func Partition(key []byte, n uint32) uint32 {
	h := uint64(14695981039346656037)
	for _, c := range key {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return uint32(h % uint64(n))
}
