package host

import "fmt"

// checkRecords tells whether b is well-formed: key and value in turn, each after its length as an unsigned varint.
// Lengths must be written in the shortest way, so that the same records are always the same bytes.
func checkRecords(b []byte) error {
	for at, n := 0, 0; at < len(b); n++ {
		for _, what := range [...]string{"key", "value"} {
			size, used := shortUvarint(b[at:])
			if used == 0 {
				return fmt.Errorf("record %d of the batch: the length of its %s is cut off or malformed", n, what)
			}
			at += used
			if uint64(len(b)-at) < size {
				return fmt.Errorf("record %d of the batch: its %s of %d bytes ends beyond the batch", n, what, size)
			}
			at += int(size)
		}
	}
	return nil
}

// shortUvarint reads an unsigned varint of at most 32 bits in its shortest form. used is 0 where there is none.
func shortUvarint(b []byte) (v uint64, used int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	for i := 0; i < len(b) && i < 5; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			if b[i] == 0 || v > 1<<32-1 {
				return 0, 0
			}
			return v, i + 1
		}
	}
	return 0, 0
}
