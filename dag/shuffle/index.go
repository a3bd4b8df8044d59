package shuffle

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/wattlehq/wattle/internal/fault"
)

// A map output is the segments of all partitions in order, then:
//
//	for each partition: bytes, keys, records (8 each, little endian)
//	number of partitions (4) | CRC-32C of the index before it (4) | magic (8)
const (
	indexMagic = "WTLSHUF1"
	indexEntry = 24
	indexTail  = 4 + 4 + len(indexMagic)
)

// MaxPartitions is how many partitions an output can have.
const MaxPartitions = 1 << 20

// Segment is one partition of a map output.
type Segment struct {
	// Offset and Size say where it stands, in bytes.
	Offset, Size int64
	// Keys counts distinct keys, Records their values.
	Keys, Records int64
}

// Index tells where the partitions of a map output are.
type Index struct {
	Segments []Segment
	// Size is that of the whole output in bytes, with the index itself.
	Size int64
}

// Segment returns where partition p stands and its length in bytes. A partition without records has a few bytes
// too; no bytes, which Merge refuses, means that the output does not have that many partitions.
func (x Index) Segment(p uint32) (off, n int64) {
	if uint64(p) >= uint64(len(x.Segments)) {
		return 0, 0
	}
	return x.Segments[p].Offset, x.Segments[p].Size
}

func appendIndex(b []byte, segments []Segment) []byte {
	start := len(b)
	for _, s := range segments {
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Size))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Keys))
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Records))
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(segments)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
	return append(b, indexMagic...)
}

// ReadIndex reads the index of a map output of size bytes. The error is of kind fault.Corrupt "damaged_output"
// when r holds something else.
func ReadIndex(r io.ReaderAt, size int64) (Index, error) {
	bad := func(what string) (Index, error) {
		return Index{}, fault.New(fault.Corrupt, "damaged_output", "not a map output: %s", what)
	}
	var tail [indexTail]byte
	if size < int64(indexTail) {
		return bad(fmt.Sprintf("%d bytes are too few", size))
	}
	if n, err := r.ReadAt(tail[:], size-int64(indexTail)); n < indexTail {
		return Index{}, fmt.Errorf("read the index of a map output: %w", err)
	}
	if string(tail[8:]) != indexMagic {
		return bad("no index at its end")
	}
	parts := binary.LittleEndian.Uint32(tail[:])
	length := int64(parts)*indexEntry + int64(indexTail)
	if parts == 0 || parts > MaxPartitions || length > size {
		return bad(fmt.Sprintf("an index of %d partitions", parts))
	}
	b := make([]byte, length)
	if n, err := r.ReadAt(b, size-length); n < len(b) {
		return Index{}, fmt.Errorf("read the index of a map output: %w", err)
	}
	entries, sum := b[:len(b)-indexTail+4], binary.LittleEndian.Uint32(tail[4:])
	if crc32.Checksum(entries, castagnoli) != sum {
		return bad("the index is damaged")
	}
	x := Index{Segments: make([]Segment, parts), Size: size}
	off := int64(0)
	for i := range x.Segments {
		e := entries[i*indexEntry:]
		n := binary.LittleEndian.Uint64(e)
		if n > uint64(size-length-off) {
			return bad("the index does not fit the size")
		}
		x.Segments[i] = Segment{off, int64(n), int64(binary.LittleEndian.Uint64(e[8:])), int64(binary.LittleEndian.Uint64(e[16:]))}
		off += int64(n)
	}
	if off != size-length {
		return bad("the index does not fit the size")
	}
	return x, nil
}
