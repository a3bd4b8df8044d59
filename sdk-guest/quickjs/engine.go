package quickjs

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// signature writes a function's type as letters: i for i32, I for i64, d for f64, then > and what it answers.
type signature string

var letters = map[byte]byte{'i': 0x7f, 'I': 0x7e, 'f': 0x7d, 'd': 0x7c}

func (s signature) encode() []byte {
	params, results, _ := strings.Cut(string(s), ">")
	b := []byte{0x60}
	for _, part := range []string{params, results} {
		b = appendU32(b, uint32(len(part)))
		for i := range len(part) {
			b = append(b, letters[part[i]])
		}
	}
	return b
}

type export struct {
	kind  byte
	index uint32
}

type imported struct {
	module, name string
	typ          uint32
}

// engine is the engine's module, taken apart as far as linking needs.
type engine struct {
	parts     []section
	types     [][]byte // as they are encoded
	imports   []imported
	functions []uint32 // the types of its own functions
	exports   map[string]export
	tableSize uint32
	globals   uint32
	datas     uint32
}

func parse(wasm []byte) (*engine, error) {
	parts, err := sections(wasm)
	if err != nil {
		return nil, err
	}
	e := &engine{parts: parts, exports: map[string]export{}}
	for _, s := range parts {
		r := &reader{b: s.body}
		switch s.id {
		case sectionType:
			r.vector(func(int) {
				from := r.at
				if form := r.byte(); form != 0x60 {
					r.fail("it has a type of the form 0x%02x, which is not known here", form)
				}
				r.bytes(r.u32())
				r.bytes(r.u32())
				e.types = append(e.types, s.body[from:r.at])
			})
		case sectionImport:
			r.vector(func(int) {
				i := imported{module: r.name(), name: r.name()}
				if kind := r.byte(); kind != 0 {
					r.fail("it imports %s.%s, which is no function", i.module, i.name)
				}
				i.typ = r.u32()
				e.imports = append(e.imports, i)
			})
		case sectionFunction:
			r.vector(func(int) { e.functions = append(e.functions, r.u32()) })
		case sectionTable:
			r.vector(func(i int) {
				typ, flags, size := r.byte(), r.byte(), r.u32()
				if i > 0 || typ != 0x70 || flags != 0 {
					r.fail("it has tables of another form than one of functions that may grow")
				}
				e.tableSize = size
			})
		case sectionGlobal:
			e.globals = r.u32()
		case sectionExport:
			r.vector(func(int) { e.exports[r.name()] = export{kind: r.byte(), index: r.u32()} })
		case sectionStart:
			r.fail("it has a start function")
		case sectionData:
			e.datas = r.u32()
		}
		if r.err != nil {
			return nil, r.err
		}
	}
	return e, nil
}

// exported answers the index of an exported function, which has to be of the type.
func (e *engine) exported(name string, s signature) (uint32, error) {
	x, ok := e.exports[name]
	if !ok || x.kind != 0 {
		return 0, fmt.Errorf("it does not export the function %s", name)
	}
	own := int(x.index) - len(e.imports)
	if own < 0 || own >= len(e.functions) || int(e.functions[own]) >= len(e.types) || !bytes.Equal(e.types[e.functions[own]], s.encode()) {
		return 0, fmt.Errorf("its function %s is not of the type %s", name, s)
	}
	return x.index, nil
}

// typeOf answers the index of a type, which is added where it is missing.
func (e *engine) typeOf(s signature) uint32 {
	b := s.encode()
	i := slices.IndexFunc(e.types, func(t []byte) bool { return bytes.Equal(t, b) })
	if i < 0 {
		i = len(e.types)
		e.types = append(e.types, b)
	}
	return uint32(i)
}
