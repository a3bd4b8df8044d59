package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/wattlehq/wattle/internal/fault"
)

// Pebble takes the first record of a write-ahead log or a MANIFEST that it cannot read for the end, which is right for
// what was being written in a crash. In a MANIFEST it never looks further, and in a log only from the next block of 32 KiB
// on: damage before that would silently take away what was acknowledged. So these files are read before Pebble does.

// The format of both: blocks of 32 KiB with chunks in them, none across the end of a block. A chunk is CRC (4), length (2),
// kind (1), then in a log its number (4) and how much of the file was synced when it was written (8), then the data.
const (
	blockSize      = 32 << 10
	chunkHeader    = 7
	logChunkHeader = chunkHeader + 4 + 8
	// Kinds of chunks: whole records and first parts; in a log 8 more.
	kindFull, kindFirst, kindLast = 1, 2, 4
	kindLog                       = 8
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// records is a file of records.
type records struct {
	b []byte
	// number is that of a log.
	number uint32
	log    bool
}

// chunk returns the length of the chunk at an offset with its header, or zero if there is no whole one.
func (r *records) chunk(at int) int {
	block := r.b[at:min(len(r.b), at-at%blockSize+blockSize)]
	header, first := chunkHeader, 0
	if r.log {
		header, first = logChunkHeader, kindLog
	}
	if len(block) < header {
		return 0
	}
	n := header + int(binary.LittleEndian.Uint16(block[4:]))
	kind := int(block[6]) - first
	if kind < kindFull || kind > kindLast || n > len(block) || r.log && binary.LittleEndian.Uint32(block[7:]) != r.number {
		return 0
	}
	c := crc32.Checksum(block[6:n], castagnoli)
	if (c>>15|c<<17)+0xa282ead8 != binary.LittleEndian.Uint32(block) {
		return 0
	}
	return n
}

// end returns where the first chunk is that cannot be read.
func (r *records) end() int {
	for at := 0; at < len(r.b); {
		n := r.chunk(at)
		if n == 0 {
			// What is left of a block may be too short for a chunk.
			next := at - at%blockSize + blockSize
			if next-at < logChunkHeader && next <= len(r.b) && strings.Trim(string(r.b[at:next]), "\x00") == "" {
				at = next
				continue
			}
			return at
		}
		at += n
	}
	return len(r.b)
}

// damage returns where a record cannot be read although it was durable once, or -1. What follows it proves that: in a log a
// chunk that was written when more than that was synced, in a MANIFEST, where every record is synced before the next
// one, the beginning of another record.
func (r *records) damage() int {
	end := r.end()
	for at := end + 1; at < len(r.b); at++ {
		if r.chunk(at) == 0 {
			continue
		}
		if r.log && binary.LittleEndian.Uint64(r.b[at+chunkHeader+4:]) > uint64(end) {
			return end
		}
		if !r.log && r.b[at+6] <= kindFirst {
			return end
		}
	}
	return -1
}

// damagedFile is the refusal of a file whose content is not what was written.
func damagedFile(name string, err error) error {
	return fault.New(fault.Corrupt, "damaged_store", "%s is damaged: %w", name, err).
		Hint("check the disk, then restore the data directory from a copy; nothing in it was changed")
}

// verifyDB refuses a database whose logs or MANIFEST are damaged before their end, and one that has content but no
// MANIFEST in use, which Pebble would begin anew. used says that there is content beyond what its tables show. It tells whether there is a database.
func verifyDB(fs FS, dir string, used bool) (there bool, err error) {
	names, err := fs.List(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	manifest := currentManifest(names)
	used = used || slices.ContainsFunc(names, func(n string) bool { return path.Ext(n) == ".sst" })
	if manifest == "" && used {
		return false, damagedFile(dir, errors.New("the file marker.manifest.* is missing"))
	}
	for _, name := range names {
		n, isLog := logNumber(name)
		if !isLog && name != manifest {
			continue
		}
		b, err := ReadFile(fs, fs.PathJoin(dir, name))
		if err != nil {
			return false, err
		}
		if at := (&records{b: b, number: n, log: isLog}).damage(); at >= 0 {
			return false, damagedFile(fs.PathJoin(dir, name), fmt.Errorf("byte %d cannot be read although what follows can", at))
		}
	}
	return manifest != "", nil
}

// logNumber tells whether a file is a write-ahead log, and which.
func logNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(path.Base(name), ".log")
	n, err := strconv.ParseUint(digits, 10, 32)
	return uint32(n), ok && err == nil
}

// currentManifest is what the newest marker points at: marker.manifest.NUMBER.NAME.
func currentManifest(names []string) (manifest string) {
	newest := uint64(0)
	for _, name := range names {
		rest, ok := strings.CutPrefix(name, "marker.manifest.")
		digits, value, _ := strings.Cut(rest, ".")
		if n, err := strconv.ParseUint(digits, 10, 64); ok && err == nil && n >= newest {
			newest, manifest = n, value
		}
	}
	return manifest
}

// ReadFile reads all of a file.
func ReadFile(fs FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}
