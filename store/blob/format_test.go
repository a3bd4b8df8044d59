package blob

import (
	"testing"

	"github.com/wattlehq/wattle/internal/digest"
)

func TestSizeOf(t *testing.T) {
	t.Parallel()
	// Lengths map to at most one size, and every size is found again.
	for _, base := range []int64{0, ChunkSize, 2 * ChunkSize, 3 * ChunkSize, 1 << 33} {
		for size := max(0, base-200); size < base+200; size++ {
			if got, ok := sizeOf(size + trailerSize(size)); !ok || got != size {
				t.Fatalf("size %d became %d, %v", size, got, ok)
			}
		}
	}
	for length := range int64(ChunkSize + 1000) {
		if size, ok := sizeOf(length); ok && size+trailerSize(size) != length {
			t.Fatalf("length %d gives %d", length, size)
		}
	}
}

func FuzzDecodeTrailer(f *testing.F) {
	d := digest.Of([]byte("x"))
	f.Add(appendTrailer(nil, d, 1, nil), int64(1))
	f.Add(appendTrailer(nil, digest.Of(nil), 0, nil), int64(0))
	f.Add(appendTrailer(nil, d, 2*ChunkSize, make([]digest.Digest, 2)), int64(2*ChunkSize))
	f.Fuzz(func(t *testing.T, trailer []byte, size int64) {
		if size < 0 || size > 1<<40 {
			size = 1
		}
		chunks, err := decodeTrailer(trailer, d, size)
		if err != nil {
			return
		}
		if int64(len(chunks)) != chunkCount(size) {
			t.Fatalf("%d chunks for %d bytes", len(chunks), size)
		}
		if string(appendTrailer(nil, d, size, chunks)) != string(trailer) {
			t.Fatal("another trailer means the same")
		}
	})
}
