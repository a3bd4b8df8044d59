package instrument_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// bulkModule has f0 for memory.fill and f1 for memory.copy.
func bulkModule() []byte {
	three := []byte{0x20, 0, 0x20, 1, 0x20, 2}
	in := []valueType{i32, i32, i32}
	return module(function{in: in, code: join(three, []byte{0xfc, 11, 0})}, function{in: in, code: join(three, []byte{0xfc, 10, 0, 0})}).wasm()
}

func memoryOf(mod api.Module) []byte {
	b, _ := mod.Memory().Read(0, mod.Memory().Size())
	return b
}

// Filling and copying in chunks does what the instructions do: ranges that overlap, that are longer than chunks, that
// end where memory does or beyond.
func TestBulk(t *testing.T) {
	t.Parallel()
	wasm := bulkModule()
	plain := start(t, wasm, nil)
	rewritten, fuel := metered(t, wasm, 1000)
	size := plain.Memory().Size()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range memoryOf(plain) {
		memoryOf(plain)[i] = byte(r.Uint32())
	}
	copy(memoryOf(rewritten), memoryOf(plain))
	random := func(n uint32) uint64 { return uint64(r.Uint32N(n)) }
	cases := [][3]uint64{
		{0, 0, 0},
		{uint64(size), uint64(size), 0},
		{uint64(size) + 1, 0, 0},
		{0, uint64(size) + 1, 0},
		{0, 0, uint64(size)},
		{0, 0, uint64(size) + 1},
		{1, 0, uint64(size)},
		{0, 1, uint64(size)},
		{1, 0, uint64(size) - 1},
		{0, 1, uint64(size) - 1},
		{1<<32 - 1, 0, 1},
		{0, 1<<32 - 1, 1},
		{0, 0, 1<<32 - 1},
		{1<<32 - 1, 1<<32 - 1, 1<<32 - 1},
		{100, 0, 3 << 20},
		{0, 100, 3 << 20},
		{1 << 20, 0, 2 << 20},
		{0, 1 << 20, 2 << 20},
		{1<<20 + 1, 0, 2<<20 + 1},
		{5, 5, 2<<20 - 1},
		{0, 2 << 20, 1 << 20},
		{2 << 20, 0, 1 << 20},
	}
	for range 40 {
		cases = append(cases, [3]uint64{random(size), random(size), random(size / 2)}, [3]uint64{random(300), random(300), random(300)})
	}
	for _, name := range []string{"f0", "f1"} {
		for _, c := range cases {
			_, want := plain.ExportedFunction(name).Call(t.Context(), c[:]...)
			_, err := rewritten.ExportedFunction(name).Call(t.Context(), c[:]...)
			if trapOf(err) != trapOf(want) {
				t.Errorf("%s%d: %v instead of %v", name, c, err, want)
			}
			if !bytes.Equal(memoryOf(plain), memoryOf(rewritten)) {
				t.Fatalf("%s%d leaves another memory", name, c)
			}
		}
	}
	if fuel.longest > instrument.Chunk/8+1000 {
		t.Errorf("%d units without a check", fuel.longest)
	}
}

// A fill that is stopped half-way stops there.
func TestBulkStops(t *testing.T) {
	t.Parallel()
	m, err := instrument.Rewrite(bulkModule(), instrument.Options{})
	if err != nil {
		t.Fatal(err)
	}
	f := &meter{slice: 1000, most: 200_000}
	mod := start(t, m.Wasm, f)
	if _, err := mod.ExportedFunction("f0").Call(t.Context(), 0, 7, 4<<20); err == nil {
		t.Fatal("it was not stopped")
	}
	if b := memoryOf(mod); b[0] != 7 || b[1<<20-1] != 7 || b[1<<20] != 0 {
		t.Error("it did not stop between two chunks")
	}
}

// The host is told of tables that could not grow, and no table grows beyond its share.
func TestTableGrow(t *testing.T) {
	t.Parallel()
	grow := func(table byte) function {
		return function{in: []valueType{i32}, out: []valueType{i32}, code: []byte{0xd0, 0x70, 0x20, 0, 0xfc, 15, table}}
	}
	p := module(grow(0), grow(1)).with(4, list([]byte{0x70, 0, 4}, []byte{0x70, 1, 0, 10}, []byte{0x6f, 0, 2}))
	m, err := instrument.Rewrite(p.wasm(), instrument.Options{MaxEntries: 106})
	if err != nil {
		t.Fatal(err)
	}
	if m.TableEntries != 4+50+10+2 {
		t.Errorf("%d entries may come into being", m.TableEntries)
	}
	f := &meter{slice: 1 << 20}
	mod := start(t, m.Wasm, f)
	for _, c := range []struct {
		name        string
		delta, want uint64
	}{
		{"f0", 0, 4},
		{"f0", 51, 1<<32 - 1},
		{"f0", 50, 4},
		{"f0", 1, 1<<32 - 1},
		{"f0", 1<<32 - 1, 1<<32 - 1},
		{"f1", 10, 0},
		{"f1", 1, 1<<32 - 1},
	} {
		if got := call(t, mod, c.name, c.delta)[0]; got != c.want {
			t.Errorf("%s(%d) is %d instead of %d", c.name, c.delta, got, c.want)
		}
	}
	if want := []uint32{51, 1, 1<<32 - 1, 1}; len(f.refused) != 4 || f.refused[0] != want[0] || f.refused[2] != want[2] {
		t.Errorf("refused: %d instead of %d", f.refused, want)
	}
}

// Tables that never grow stay as they are.
func TestTablesStay(t *testing.T) {
	t.Parallel()
	p := module(function{}).with(4, list([]byte{0x70, 0, 4}))
	m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
	if err != nil || m.TableEntries != 4 || !bytes.Contains(m.Wasm, section(nil, 4, p.sections[4])) {
		t.Errorf("%d entries, %v", m.TableEntries, err)
	}
}
