package blob

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"github.com/wattlehq/wattle/internal/digest"
)

// ChunkSize is the unit of verification and of resumable uploads, in bytes. Only the last chunk of a blob
// may be shorter. It is part of the format on disk.
const ChunkSize = 1 << 20

// A blob's file is its bytes, then a trailer:
//
//	the SHA-256 of every chunk, left out when there is only one, since that is the blob's own digest
//	footer: magic (8) | size (8, little endian) | digest (32) | SHA-256 of the trailer before it (32)
//
// The trailer comes last because a stream's size and digest are not known before its end.
const (
	magic      = "WTLBLOB1"
	footerSize = len(magic) + 8 + digest.Size + digest.Size
)

var errTrailer = errors.New("the trailer is damaged")

// chunkCount returns how many chunks size bytes have.
func chunkCount(size int64) int64 {
	n := size / ChunkSize
	if size%ChunkSize != 0 {
		n++
	}
	return n
}

// listed returns how many chunk digests the trailer of a blob lists.
func listed(size int64) int64 {
	if n := chunkCount(size); n > 1 {
		return n
	}
	return 0
}

// trailerSize returns the length of a blob's trailer in bytes.
func trailerSize(size int64) int64 { return listed(size)*digest.Size + int64(footerSize) }

// sizeOf derives a blob's size from the length of its file, and whether any blob's file is that long.
func sizeOf(length int64) (int64, bool) {
	size := length - int64(footerSize)
	if size < 0 {
		return 0, false
	}
	if size > ChunkSize {
		const full = ChunkSize + digest.Size
		n := size / full
		if size%full != 0 {
			n++
		}
		size -= n * digest.Size
	}
	return size, size >= 0 && size+trailerSize(size) == length
}

// appendTrailer appends the trailer of a blob. chunks may be empty for a blob of at most one chunk.
func appendTrailer(b []byte, d digest.Digest, size int64, chunks []digest.Digest) []byte {
	start := len(b)
	for _, c := range chunks[:listed(size)] {
		b = append(b, c[:]...)
	}
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	b = append(b, d[:]...)
	sum := sha256.Sum256(b[start:])
	return append(b, sum[:]...)
}

// decodeTrailer reads the trailer of blob d from the last bytes of a file, and returns the digests of its chunks.
func decodeTrailer(trailer []byte, d digest.Digest, size int64) ([]digest.Digest, error) {
	if size < 0 || int64(len(trailer)) != trailerSize(size) {
		return nil, errTrailer
	}
	sum := sha256.Sum256(trailer[:len(trailer)-digest.Size])
	footer := trailer[len(trailer)-footerSize:]
	rest, ok := bytes.CutPrefix(footer, []byte(magic))
	switch {
	case !ok, !bytes.Equal(sum[:], footer[footerSize-digest.Size:]):
		return nil, errTrailer
	case binary.LittleEndian.Uint64(rest) != uint64(size):
		return nil, errTrailer
	case !bytes.Equal(rest[8:8+digest.Size], d[:]):
		return nil, errors.New("it is the file of another blob")
	}
	if chunkCount(size) <= 1 {
		if size == 0 && d != digest.Of(nil) {
			return nil, errTrailer
		}
		return []digest.Digest{d}[:chunkCount(size)], nil
	}
	chunks := make([]digest.Digest, chunkCount(size))
	for i := range chunks {
		copy(chunks[i][:], trailer[i*digest.Size:])
	}
	return chunks, nil
}
