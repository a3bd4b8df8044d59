package instrument_test

import (
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// unit is code that costs two units and does nothing.
var unit2 = []byte{0x41, 1, 0x1a} // i32.const 1, drop

// Each case is a function of one i32; want says what a call with each argument costs.
func TestFuel(t *testing.T) {
	t.Parallel()
	get := []byte{0x20, 0} // local.get 0
	// countdown is a loop that costs 5 in each turn and what is in it: i32.sub, local.tee, br_if.
	countdown := func(inside ...byte) []byte {
		return join([]byte{0x03, 0x40}, inside, get, []byte{0x41, 1, 0x6b, 0x22, 0, 0x0d, 0, 0x0b})
	}
	ifs := func(then []byte, other ...byte) []byte {
		if other != nil {
			other = append([]byte{0x05}, other...)
		}
		return join(get, []byte{0x04, 0x40}, then, other, []byte{0x0b})
	}
	large := repeat(50, unit2...) // 100
	for _, c := range []struct {
		name   string
		locals []byte
		code   []byte
		want   map[uint64]int64
	}{
		{"nothing", nil, nil, map[uint64]int64{0: 0}},
		{"blocks and nops are free", nil, []byte{0x02, 0x40, 0x01, 0x0b}, map[uint64]int64{0: 0}},
		{"locals cost one each", []byte{2, 3, i64, 10, v128}, nil, map[uint64]int64{0: 13}},
		{"straight code", nil, join(unit2, unit2, unit2), map[uint64]int64{0: 6}},
		{"a loop", nil, join(unit2, countdown()), map[uint64]int64{1: 2 + 5, 2: 2 + 10, 1000: 2 + 5000}},
		{"code behind a loop", nil, join(countdown(), unit2), map[uint64]int64{1: 7, 10: 52}},
		{"code behind the turn", nil, join(countdown()[:len(countdown())-1], large, []byte{0x0b}), map[uint64]int64{1: 105, 10: 150}},
		{"nested loops", nil, join([]byte{0x03, 0x40}, countdown(), []byte{0x0b}), map[uint64]int64{1: 5, 7: 35}},
		{"small arms cost as much as the larger one", nil, ifs(repeat(20, unit2...), repeat(10, unit2...)...), map[uint64]int64{0: 42, 1: 42}},
		{"large arms cost what they are", nil, ifs(large, unit2...), map[uint64]int64{0: 4, 1: 102}},
		{"a small arm without else is always charged", nil, ifs(unit2), map[uint64]int64{0: 4, 1: 4}},
		{"a large arm without else only if it runs", nil, ifs(large), map[uint64]int64{0: 2, 1: 102}},
		{"after a branch", nil, join([]byte{0x02, 0x40}, get, []byte{0x0d, 0}, large, []byte{0x0b}), map[uint64]int64{1: 2, 0: 102}},
		{"after an early return", nil, join(ifs([]byte{0x0f}), large), map[uint64]int64{1: 3, 0: 103}},
		{"what cannot be reached is free", nil, join([]byte{0x0f}, large), map[uint64]int64{0: 1}},
		{"behind what cannot be left", nil, join([]byte{0x02, 0x40, 0x0c, 1, 0x0b}, large), map[uint64]int64{0: 1}},
		{
			"small arms add up to so much only", nil, join(ifs(repeat(15, unit2...)), ifs(repeat(15, unit2...)), ifs(repeat(15, unit2...))),
			map[uint64]int64{0: 66, 1: 96},
		},
		{"memory.grow", nil, []byte{0x41, 0, 0x40, 0, 0x1a}, map[uint64]int64{0: 258}},
		{"memory.fill", nil, join([]byte{0x41, 0, 0x41, 0}, get, []byte{0xfc, 11, 0}), map[uint64]int64{0: 4, 8: 5, 4096: 516, 2 << 20: 4 + 2<<17}},
		{"memory.copy", nil, join([]byte{0x41, 0, 0x41, 1}, get, []byte{0xfc, 10, 0, 0}), map[uint64]int64{0: 4, 2 << 20: 4 + 2<<17}},
		{"table.copy", nil, join([]byte{0x41, 0, 0x41, 0, 0x41, 4, 0xfc, 14, 0, 0}), map[uint64]int64{0: 4}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			wasm := module(function{in: []valueType{i32}, locals: c.locals, code: c.code}).wasm()
			for _, slice := range []int64{1 << 40, 3} {
				mod, fuel := metered(t, wasm, slice)
				for arg, want := range c.want {
					before := fuel.used(mod)
					call(t, mod, "f0", arg)
					if got := fuel.used(mod) - before; got != want {
						t.Errorf("f(%d) in slices of %d: %d units instead of %d", arg, slice, got, want)
					}
				}
			}
		})
	}
}

// A loop around a switch of many cases, as interpreters have it, costs what the taken case costs.
func TestFuelOfInterpreter(t *testing.T) {
	t.Parallel()
	const cases, weight = 200, 250
	code := []byte{0x03, 0x40} // loop
	code = append(code, repeat(cases+1, 0x02, 0x40)...)
	code = append(code, 0x20, 0, 0x41)
	code = append(s64(code, cases), 0x70, 0x0e) // br_table (n rem cases)
	code = u32(code, cases-1)
	for i := range cases {
		code = u32(code, i)
	}
	code = append(code, 0x0b)
	for i := range cases { // decrease n, and go round or leave
		code = append(code, repeat(weight/2, unit2...)...)
		code = append(code, 0x20, 0, 0x41, 1, 0x6b, 0x22, 0, 0x0d)
		code = u32(code, cases-i)
		code = append(code, 0x0f, 0x0b)
	}
	code = append(code, 0x0b)
	mod, fuel := metered(t, module(function{in: []valueType{i32}, code: code}).wasm(), 1<<40)
	call(t, mod, "f0", 1000)
	if got := fuel.used(mod) / 1000; got < weight || got > weight+2*instrument.ArmCost {
		t.Errorf("%d units in each turn, where a case has %d", got, weight)
	}
}

// However code is made, not much of it runs between two chances to stop it.
func TestChecks(t *testing.T) {
	t.Parallel()
	const many = 20_000
	leaf := function{code: repeat(100, unit2...)}
	arm := join([]byte{0x20, 0, 0x04, 0x40}, repeat(1000, unit2...), []byte{0x0b})
	for _, c := range []struct {
		name      string
		functions []function
		most      int64
	}{
		{"straight code", []function{{in: []valueType{i32}, code: repeat(many, unit2...)}}, 2 * instrument.Stretch},
		{"calls of small functions", []function{{in: []valueType{i32}, code: repeat(many, 0x10, 1)}, leaf}, 2 * instrument.Stretch},
		{"one arm after another", []function{{in: []valueType{i32}, code: repeat(100, arm...)}}, 2 * instrument.Stretch},
		{"recursion", []function{deep()}, 100},
		{"recursion behind a way that is not taken", []function{
			deep(),
			{code: []byte{0x41, 1, 0x10, 0}},
			{in: []valueType{i32}, code: join([]byte{0x23, 0, 0x04, 0x40, 0x10, 1, 0x0b}, repeat(20, 0x41, 0, 0x28, 2, 0, 0x1a),
				[]byte{0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 2, 0x0b})},
		}, 200},
		{"a large copy", []function{{in: []valueType{i32}, code: []byte{0x41, 0, 0x41, 1, 0x41, 0x80, 0x80, 0x80, 1, 0xfc, 10, 0, 0}}}, instrument.Chunk / 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, err := instrument.Rewrite(module(c.functions...).wasm(), instrument.Options{})
			if err != nil {
				t.Fatal(err)
			}
			f := &meter{}
			mod := start(t, m.Wasm, f)
			call(t, mod, fmt.Sprint("f", len(c.functions)/3*2), 10_000) // the last one of three
			if f.longest == 0 || f.longest > c.most {
				t.Errorf("%d units without a check; the most is %d", f.longest, c.most)
			}
			if f.granted < 10_000 {
				t.Errorf("only %d units ran", f.granted)
			}
		})
	}
}

// deep is f(n): if n { f(n-1) }, and then something.
func deep(after ...byte) function {
	return function{in: []valueType{i32}, code: join([]byte{0x20, 0, 0x04, 0x40, 0x20, 0, 0x41, 1, 0x6b, 0x10, 0, 0x0b}, after)}
}

// A deep recursion can be stopped on its way back, too, wherever what is left to do stands: it was not paid for on the
// way down, and there is a check in each frame unless next to nothing is left.
func TestChecksOnReturn(t *testing.T) {
	t.Parallel()
	count := []byte{0x23, 0, 0x41, 1, 0x6a, 0x24, 0} // global 0 counts the returns
	again := []byte{0x20, 0, 0x41, 1, 0x6b, 0x10, 0} // f(n-1)
	much := repeat(1000, unit2...)
	loads := repeat(20, 0x41, 0, 0x28, 2, 0, 0x1a) // i32.load, drop
	ifn := func(then []byte, other ...byte) []byte {
		return join([]byte{0x20, 0, 0x04, 0x40}, then, other, []byte{0x0b})
	}
	skip := func(code ...byte) []byte { // block, br_if if n is 0
		return join([]byte{0x02, 0x40, 0x20, 0, 0x45, 0x0d, 0}, code, []byte{0x0b})
	}
	indirect := []byte{0x20, 0, 0x41, 1, 0x6b, 0x41, 0, 0x11, 0, 0}
	for name, code := range map[string][]byte{
		"behind an if":          join(ifn(again), count, much),
		"in the if":             ifn(join(again, count, much)),
		"little there and more": join(ifn(join(again, count, unit2)), much),
		"loads":                 join(ifn(again), count, loads),
		"behind a block":        join(skip(again...), count, much),
		"behind blocks":         join(skip(skip(skip(again...)...)...), count, loads),
		"else":                  join(ifn(again, join([]byte{0x05}, unit2, unit2)...), count, much),
		"behind another branch": join(skip(again...), count, ifn(unit2), []byte{0x20, 0, 0x45, 0x0d, 0}, much),
		"small functions":       join(ifn(again), count, repeat(10, 0x10, 1)),
		"through a table":       join(ifn(indirect), count, loads),
		"in a loop":             join(ifn(join([]byte{0x03, 0x40}, again, []byte{0x0b})), count, much),
	} {
		f := function{in: []valueType{i32}, code: code}
		p := module(f, function{code: repeat(40, unit2...)}).with(9, list([]byte{0, 0x41, 0, 0x0b, 1, 0}))
		m, err := instrument.Rewrite(p.wasm(), instrument.Options{})
		if err != nil {
			t.Fatal(err)
		}
		last, most := uint64(0), uint64(0)
		fuel := &meter{}
		fuel.seen = func(mod api.Module) {
			now := mod.ExportedGlobal(instrument.GlobalExport(0)).Get()
			last, most = now, max(most, now-last)
		}
		mod := start(t, m.Wasm, fuel)
		call(t, mod, "f0", 10_000)
		if fuel.seen(mod); last < 10_000 || most > 2 {
			t.Errorf("%s: %d of %d returns without a check between them", name, most, last)
		}
	}
}
