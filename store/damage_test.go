package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/wattlehq/wattle/internal/fault"
)

func whole(fs *vfs.MemFS) *vfs.MemFS {
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
}

// A bit flipped anywhere in a log is never taken for its end while something follows it that was written later. Pebble
// alone would not notice within the last 32 KiB.
func TestDamagedLog(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, fs)
	const keys = 40
	for i := range keys {
		set(t, s.Log, fmt.Sprint("key", i), true)
	}
	killed := whole(fs)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	list, err := ReadFile(killed, "a/data/WAL")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(list), "\n")
	name := "a/data/log/" + lines[len(lines)-3] // before the end
	b, err := ReadFile(killed, name)
	if err != nil {
		t.Fatal(err)
	}
	number, _ := logNumber(name)
	r := &records{b: b, number: number, log: true}
	if end := r.end(); end != len(b) || r.damage() != -1 {
		t.Fatalf("a good log of %d bytes ends at %d, damaged at %d", len(b), end, r.damage())
	}
	var last int
	for at := 0; at < len(b); at += r.chunk(at) {
		last = at
	}
	for at := range b {
		for bit := range 8 {
			b[at] ^= 1 << bit
			if (r.damage() >= 0) != (at < last) {
				t.Errorf("bit %d of byte %d flipped, the last record begins at %d: damage said to be at %d", bit, at, last, r.damage())
			}
			b[at] ^= 1 << bit
		}
	}
	// Cut off anywhere, and with what a crash may leave behind, it is a log that was being written.
	for at := range b {
		for _, tail := range []string{"", "\x00\x00\x00", strings.Repeat("\x00", 100), "garbage"} {
			cut := &records{b: append(b[:at:at], tail...), number: number, log: true}
			if d := cut.damage(); d >= 0 {
				t.Errorf("cut off at %d with %q: said to be damaged at %d", at, tail, d)
			}
		}
	}
	// And so through Open, at one byte of each record.
	for at := 0; at < last; at += r.chunk(at) {
		c := whole(killed)
		f, err := c.OpenReadWrite(name, writeCategory)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteAt([]byte{b[at+20] ^ 1}, int64(at+20)); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		if _, err := open(c); fault.Reason(err) != "damaged_store" || !strings.Contains(err.Error(), name) {
			t.Errorf("record at %d damaged: %v", at, err)
		}
	}
}

// A crash may keep the new marker of a MANIFEST and lose the MANIFEST itself, unless the directory is synced in between.
func TestMarkersFollowTheirManifest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		fs := vfs.NewCrashableMem()
		var left []*vfs.MemFS
		rng := rand.New(rand.NewPCG(seed, 1))
		s := mustOpen(t, fs)
		set(t, s.Log, "key", true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		// Opening again makes a new MANIFEST.
		s = mustOpen(t, &peekFS{fs, func() {
			left = append(left, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng}))
		}})
		if len(left) == 0 {
			t.Fatal("no marker was made")
		}
		for _, l := range left {
			after := mustOpen(t, l)
			if !has(t, after.Log, "key") {
				t.Error("a crash lost what was synced")
			}
			if err := after.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// peekFS looks at the disk just after a marker was made.
type peekFS struct {
	FS
	peek func()
}

func (p *peekFS) Create(name string, c vfs.DiskWriteCategory) (File, error) {
	f, err := p.FS.Create(name, c)
	if isMarker(p.FS, name) {
		p.peek()
	}
	return f, err
}
