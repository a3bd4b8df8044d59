package instrument

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// HookModule is the module whose functions the host offers to rewritten modules. Guests may not import from it.
//
//   - "slice" () -> () is called when the fuel is below zero: the host checks whatever it wants to check, then sets the
//     global to zero or above, or panics to stop the guest.
//   - "table_refused" (i32) -> () is called with the delta of a table.grow that was answered with -1. It is imported
//     only by modules that grow tables.
const HookModule = "wattle:hook"

// Names of what is added to a module. They begin with a byte that guests' own exports may not begin with.
const (
	hidden = "\x01"
	// FuelExport is a mutable i64 global: the units that are left of the slice.
	FuelExport = hidden + "fuel"
	// StartExport is the start function, where there was one. Its section is gone, so the host calls it.
	StartExport = hidden + "start"
	// MemoryExport is the memory, where the module defines one, also if the guest exports it by another name.
	MemoryExport = hidden + "memory"
)

// GlobalExport is the name of the i-th captured global.
func GlobalExport(i int) string { return fmt.Sprintf("%sg%d", hidden, i) }

// Features are proposals that an engine may have switched on or off. The bits are those of wazero's api.CoreFeatures;
// only the ones named here make a difference, since all others are on by default or absent.
type Features uint64

// The proposals that are off unless asked for.
const (
	Threads Features = 1 << (iota + 7)
	TailCall
	ExtendedConst
	ExceptionHandling
	TypedFunctionReferences
)

// Options say what a module may contain. A zero bound means its default.
type Options struct {
	Features     Features
	MaxLocals    uint32 // of one function; 50,000
	MaxTables    uint32 // 16
	MaxEntries   uint32 // of all tables together; 2^20
	MaxGlobals   uint32 // 100,000
	MaxParams    uint32 // and results, of one type; 1,000
	MaxBodyBytes uint32 // of one function; 8 MiB
	// MaxNesting and MaxLoops bound blocks within blocks, and loops within loops: wazero takes a time that grows with
	// the square of them, and minutes for some thousand loops; 20,000 and 500.
	MaxNesting, MaxLoops uint32
}

func (o Options) withDefaults() Options {
	for _, f := range []struct {
		field *uint32
		value uint32
	}{
		{&o.MaxLocals, 50_000},
		{&o.MaxTables, 16},
		{&o.MaxEntries, 1 << 20},
		{&o.MaxGlobals, 100_000},
		{&o.MaxParams, 1_000},
		{&o.MaxBodyBytes, 8 << 20},
		{&o.MaxNesting, 20_000},
		{&o.MaxLoops, 500},
	} {
		if *f.field == 0 {
			*f.field = f.value
		}
	}
	return o
}

// Kind is what an import or export is.
type Kind byte

// The kinds, as the binary format numbers them.
const (
	Function Kind = iota
	Table
	Memory
	Global
	Tag
)

// Import is something a module asks for.
type Import struct {
	Module, Name string
	Kind         Kind
}

// Module is a rewritten module and what was learned of the original.
type Module struct {
	Wasm    []byte
	Imports []Import // the original's

	HasStart  bool
	HasMemory bool   // defined or imported
	MinMemory uint64 // bytes the defined memory begins with

	// Globals counts the captured globals: every mutable number the module defines. They are exported as
	// GlobalExport(0) and so on, in the order of their definition.
	Globals int
	// Uncapturable says why memory and captured globals are not the whole state of an instance, a few reasons at
	// most, each a part of a sentence. It is empty where they are.
	Uncapturable []string

	Functions    int    // defined ones
	TableEntries uint64 // the most that may come into being in the defined tables
}

var wasmMagic = []byte("\x00asm")

// Rewrite answers the module with metering and hidden exports. Its errors are all of type *Error.
func Rewrite(wasm []byte, o Options) (Module, error) { return rewrite(wasm, o, tuned) }

func rewrite(wasm []byte, o Options, t tuning) (Module, error) {
	if err := checkHeader(wasm); err != nil {
		return Module{}, err
	}
	m := &module{options: o.withDefaults(), wasm: wasm, tuning: t}
	for _, step := range []func() *Error{m.split, m.read, m.checkLocals, m.analyze, m.bound} {
		if err := step(); err != nil {
			return Module{}, err
		}
	}
	out, err := m.build()
	if err != nil {
		return Module{}, err
	}
	return m.describe(out), nil
}

func checkHeader(wasm []byte) *Error {
	if len(wasm) < 4 && bytes.HasPrefix(wasmMagic, wasm) && len(wasm) > 0 {
		return truncated(len(wasm))
	}
	if !bytes.HasPrefix(wasm, wasmMagic) {
		return notWasm(wasm)
	}
	if len(wasm) < 8 {
		return truncated(len(wasm))
	}
	switch version, layer := binary.LittleEndian.Uint16(wasm[4:]), binary.LittleEndian.Uint16(wasm[6:]); {
	case layer == 1:
		return component()
	case version != 1 || layer != 0:
		return invalid("version %d of the format (layer %d) is not known", version, layer)
	}
	return nil
}

func (m *module) describe(wasm []byte) Module {
	d := Module{
		Wasm:         wasm,
		Imports:      m.imports,
		HasStart:     m.start >= 0,
		HasMemory:    m.memories > 0,
		MinMemory:    uint64(m.memory.min) * pageSize,
		Globals:      len(m.captured),
		Uncapturable: m.uncapturable(),
		Functions:    len(m.funcs) - m.imported[Function],
	}
	for _, t := range m.tables[m.imported[Table]:] {
		d.TableEntries += uint64(t.most())
	}
	return d
}
