package quickjs

import (
	"fmt"
	"slices"
	"strings"
)

// Source is a file of a program, named as others import it.
type Source struct {
	Name string
	Text string
}

// Link makes a module of the engine and of a script, which is evaluated first and has to know of every source that it and the
// others import: it sets globalThis.sources. See sdk-guest/javascript.
func Link(wasm []byte, script string) ([]byte, error) {
	e, err := parse(wasm)
	if err != nil {
		return nil, err
	}
	l := &linker{engine: e, glue: glue(), script: script, names: map[string]uint32{}}
	return l.link()
}

// global is a variable of the glue.
type global uint32

const (
	globalContext global = iota
	globalRuntime
	globalMemory
	globalReady
	globalCount
)

var globalTypes = [globalCount]byte{i32, i32, i32, i64}

// linker puts the glue's functions behind the engine's own and the host's imports before them. All functions get new numbers:
// imports of wattle and WASI, the engine's functions, the glue's functions.
type linker struct {
	engine  *engine
	glue    []function
	script  string
	names   map[string]uint32 // new numbers of functions the glue may call
	kept    []imported        // what is imported in the end
	renamed []uint32          // new numbers of the engine's imports
	err     error
}

// function is one of the glue's.
type function struct {
	name      string // of the engine's import it stands in for, of the export, or only of its own
	signature signature
	locals    []byte
	native    bool // JavaScript calls it
	export    bool
	assemble  func(a *asm)
}

func (l *linker) global(g global) uint32 { return l.engine.globals + uint32(g) }

func (l *linker) function(name string) uint32 {
	i, ok := l.names[name]
	if !ok && l.err == nil {
		l.err = fmt.Errorf("the glue calls %s, which is nowhere", name)
	}
	return i
}

// number gives all functions their numbers.
func (l *linker) number() error {
	e := l.engine
	for _, h := range hostFunctions {
		l.kept = append(l.kept, imported{module: "wattle", name: h.name, typ: e.typeOf(h.signature)})
		l.names["wattle."+h.name] = uint32(len(l.kept) - 1)
	}
	for _, i := range e.imports {
		if i.module == "wasi_snapshot_preview1" {
			l.kept = append(l.kept, i)
			l.names["wasi."+i.name] = uint32(len(l.kept) - 1)
		}
	}
	first := uint32(len(l.kept) + len(e.functions))
	for i, f := range l.glue {
		l.names[f.name] = first + uint32(i)
	}
	for _, i := range e.imports {
		name, known := i.module+"."+i.name, false
		if i.module == "wasi_snapshot_preview1" {
			name, known = "wasi."+i.name, true
		} else if at := slices.IndexFunc(l.glue, func(f function) bool { return f.name == name }); at >= 0 {
			known = e.typeOf(l.glue[at].signature) == i.typ
		}
		if !known {
			return fmt.Errorf("it imports %s, which is not known here or of another type", name)
		}
		l.renamed = append(l.renamed, l.names[name])
	}
	for name, s := range engineFunctions {
		i, err := e.exported(name, s)
		if err != nil {
			return err
		}
		l.names[name] = l.renumbered(i)
	}
	return nil
}

// renumbered answers the new number of a function of the engine.
func (l *linker) renumbered(i uint32) uint32 {
	if int(i) < len(l.renamed) {
		return l.renamed[i]
	}
	return i - uint32(len(l.renamed)) + uint32(len(l.kept))
}

func (l *linker) link() ([]byte, error) {
	if x, ok := l.engine.exports["memory"]; !ok || x.kind != 2 {
		return nil, fmt.Errorf("it exports no memory")
	}
	if err := l.number(); err != nil {
		return nil, err
	}
	changed := map[byte]func(*reader) ([]byte, error){
		sectionImport:    l.imports,
		sectionFunction:  l.functions,
		sectionTable:     l.table,
		sectionGlobal:    l.globals,
		sectionExport:    l.exports,
		sectionElement:   l.elements,
		sectionDataCount: func(*reader) ([]byte, error) { return appendU32(nil, l.engine.datas+1), nil },
		sectionCode:      l.code,
		sectionData:      l.data,
	}
	// Types are written last: the others add to them.
	var out []byte
	seen := map[byte]bool{}
	for _, s := range l.engine.parts {
		if s.id == sectionCustom || s.id == sectionType {
			continue
		}
		body := s.body
		if change := changed[s.id]; change != nil {
			var err error
			if body, err = change(&reader{b: s.body}); err != nil {
				return nil, err
			}
		}
		seen[s.id] = true
		out = appendBytes(append(out, s.id), body)
	}
	for id := range changed {
		if !seen[id] {
			return nil, fmt.Errorf("it has no section %d", id)
		}
	}
	if l.err != nil {
		return nil, l.err
	}
	types := appendU32(nil, uint32(len(l.engine.types)))
	for _, t := range l.engine.types {
		types = append(types, t...)
	}
	module := append([]byte("\x00asm\x01\x00\x00\x00"), sectionType)
	return append(appendBytes(module, types), out...), nil
}

func (l *linker) imports(*reader) ([]byte, error) {
	b := appendU32(nil, uint32(len(l.kept)))
	for _, i := range l.kept {
		b = appendBytes(b, i.module)
		b = append(appendBytes(b, i.name), 0)
		b = appendU32(b, i.typ)
	}
	return b, nil
}

func (l *linker) functions(*reader) ([]byte, error) {
	b := appendU32(nil, uint32(len(l.engine.functions)+len(l.glue)))
	for _, t := range l.engine.functions {
		b = appendU32(b, t)
	}
	for _, f := range l.glue {
		b = appendU32(b, l.engine.typeOf(f.signature))
	}
	return b, nil
}

// table makes room for the functions that the engine calls by their place in it.
func (l *linker) table(*reader) ([]byte, error) {
	return appendU32([]byte{1, 0x70, 0}, l.engine.tableSize+uint32(len(l.glue))), nil
}

// place is where a function of the glue lies in the table.
func (l *linker) place(name string) int32 {
	return int32(l.engine.tableSize) + int32(slices.IndexFunc(l.glue, func(f function) bool { return f.name == name }))
}

func (l *linker) globals(r *reader) ([]byte, error) {
	n := r.u32()
	b := append(appendU32(nil, n+uint32(globalCount)), r.b[r.at:]...)
	for _, t := range globalTypes {
		zero := byte(0x41) // i32.const
		if t == i64 {
			zero = 0x42
		}
		b = append(b, t, 1, zero, 0, 0x0b)
	}
	return b, nil
}

func (l *linker) exports(*reader) ([]byte, error) {
	var b []byte
	n := uint32(1)
	b = append(appendBytes(b, "memory"), 2, 0)
	for _, f := range l.glue {
		if f.export {
			b = appendU32(append(appendBytes(b, strings.TrimPrefix(f.name, "export.")), 0), l.names[f.name])
			n++
		}
	}
	return append(appendU32(nil, n), b...), nil
}

func (l *linker) elements(r *reader) ([]byte, error) {
	var b []byte
	n := uint32(0)
	r.vector(func(int) {
		n++
		from := r.at
		if flags := r.u32(); flags != 0 {
			r.fail("it has elements of the form %d, which is not known here", flags)
		}
		if op := r.byte(); op != 0x41 {
			r.fail("elements are placed by the instruction 0x%02x", op)
		}
		r.leb()
		r.byte() // end
		b = append(b, r.b[from:r.at]...)
		var items []byte
		count := uint32(0)
		r.vector(func(int) {
			items = appendU32(items, l.renumbered(r.u32()))
			count++
		})
		b = append(appendU32(b, count), items...)
	})
	b = appendSigned(append(b, 0, 0x41), int64(l.engine.tableSize))
	b = appendU32(append(b, 0x0b), uint32(len(l.glue)))
	for _, f := range l.glue {
		b = appendU32(b, l.names[f.name])
	}
	return append(appendU32(nil, n+1), b...), r.err
}

func (l *linker) code(r *reader) ([]byte, error) {
	b := make([]byte, 0, len(r.b)+len(r.b)/8)
	b = appendU32(b, uint32(len(l.engine.functions)+len(l.glue)))
	r.vector(func(int) {
		body, err := renumber(r.bytes(r.u32()), l.renumbered)
		if err != nil && r.err == nil {
			r.err = err
		}
		b = appendBytes(b, body)
	})
	for _, f := range l.glue {
		a := &asm{l: l, locals: f.locals}
		f.assemble(a)
		b = appendBytes(b, a.body())
	}
	return b, r.err
}

// data adds a passive segment with what the glue needs in memory, which _initialize copies to where there is room.
func (l *linker) data(r *reader) ([]byte, error) {
	n := r.u32()
	b := append(appendU32(nil, n+1), r.b[r.at:]...)
	return appendBytes(append(b, 1), l.constants()), nil
}
