package host

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/wattlehq/wattle/internal/fault"
)

// What a module may ask for before it runs. wazero checks that modules are valid, but trusts their numbers: a few
// bytes that announce four billion locals or table entries would make it allocate them.
const (
	maxLocals       = 50_000
	maxTables       = 16
	maxTableEntries = 1 << 20
	maxGlobals      = 100_000
	maxParams       = 1_000
	maxBody         = 8 << 20
)

// outline is what check learns of a module.
type outline struct {
	imports   []importName
	minMemory uint64 // bytes
}

type importName struct {
	module, name string
	function     bool
}

// Section ids of the binary format.
const (
	secCustom = iota
	secType
	secImport
	secFunction
	secTable
	secMemory
	secGlobal
	secExport
	secStart
	secElement
	secCode
	secData
	secDataCount
)

var wasmMagic = []byte("\x00asm")

// check looks at a module before it is compiled. It answers the bytes to compile: custom sections other than the
// functions' names are dropped, and tables that could grow without end get a maximum, since wazero keeps them outside
// of the memory limit.
func check(wasm []byte) ([]byte, outline, error) {
	var o outline
	if len(wasm) < 4 && bytes.HasPrefix(wasmMagic, wasm) && len(wasm) > 0 {
		return nil, o, truncated(len(wasm))
	}
	if !bytes.HasPrefix(wasm, wasmMagic) {
		return nil, o, fault.New(fault.Invalid, "not_wasm", "this is not a WebAssembly module: it starts with %.8q, not with \"\\x00asm\"", wasm[:min(8, len(wasm))]).
			Hint("give the .wasm file that the compiler made; text (.wat) must be assembled first")
	}
	if len(wasm) < 8 {
		return nil, o, truncated(len(wasm))
	}
	switch version, layer := binary.LittleEndian.Uint16(wasm[4:]), binary.LittleEndian.Uint16(wasm[6:]); {
	case layer == 1:
		return nil, o, fault.New(fault.Invalid, "component", "this is a component of the component model, which is not supported").
			Hint("build a core module instead: for Rust the target wasm32-wasip1 or wasm32-unknown-unknown, for Go GOOS=wasip1 GOARCH=wasm")
	case version != 1 || layer != 0:
		return nil, o, invalid("version %d of the format (layer %d) is not known", version, layer)
	}

	out := make([]byte, 8, len(wasm))
	copy(out, wasm)
	s := scanner{b: wasm, at: 8}
	for s.left() > 0 {
		from := s.at
		id := s.byte()
		size := s.u32()
		if s.bad || uint64(size) > uint64(s.left()) {
			return nil, o, truncated(len(wasm))
		}
		body := scanner{b: s.bytes(int(size))}
		var replaced []byte
		keep := true
		err := error(nil)
		switch id {
		case secCustom:
			replaced, keep = functionNames(&body)
		case secType:
			checkTypes(&body)
		case secImport:
			err = o.readImports(&body)
		case secTable:
			replaced, err = clampTables(&body)
		case secMemory:
			if body.count() == 1 {
				_, pages, _ := body.limits()
				o.minMemory = pages * wasmPage
			}
		case secGlobal:
			if n := body.count(); n > maxGlobals {
				err = invalid("it has %d globals; the most is %d", n, maxGlobals)
			}
		case secFunction:
			body.count()
		case secExport:
			for range body.count() {
				body.name()
				body.byte()
				body.leb()
				if body.bad {
					break
				}
			}
		case secElement:
			checkElements(&body)
		case secCode:
			err = checkCode(&body)
		case secData:
			checkData(&body)
		}
		switch {
		case err != nil:
			return nil, o, err
		case body.bad:
			return nil, o, invalid("section %d is malformed", id)
		case !keep:
		case replaced != nil:
			out = append(out, id)
			out = appendU32(out, uint32(len(replaced)))
			out = append(out, replaced...)
		default:
			out = append(out, wasm[from:s.at]...)
		}
	}
	return out, o, nil
}

func (o *outline) readImports(s *scanner) error {
	for range s.count() {
		in := importName{module: s.name(), name: s.name()}
		switch kind := s.byte(); kind {
		case 0:
			in.function = true
			s.leb()
		case 1:
			s.leb()
			s.limits()
		case 2:
			s.limits()
		case 3, 4:
			s.leb()
			s.byte()
		default:
			return invalid("import %s.%s is of unknown kind %d", in.module, in.name, kind)
		}
		if s.bad {
			return nil
		}
		o.imports = append(o.imports, in)
	}
	return nil
}

func checkTypes(s *scanner) {
	for range s.count() {
		if s.byte() != 0x60 {
			s.bad = true
		}
		for range 2 { // parameters, results
			n := s.count()
			s.bytes(n)
			if s.bad || n > maxParams {
				s.bad = true
				return
			}
		}
	}
}

// clampTables writes the section anew, with a maximum for each table.
func clampTables(s *scanner) ([]byte, error) {
	n := s.count()
	if n > maxTables {
		return nil, invalid("it has %d tables; the most is %d", n, maxTables)
	}
	out := appendU32(nil, uint32(n))
	for range n {
		element := s.byte()
		flag, least, most := s.limits()
		if s.bad || flag > 1 || (element != 0x70 && element != 0x6f) {
			s.bad = true
			return nil, nil
		}
		if least > maxTableEntries {
			return nil, invalid("a table of %d entries is too large; the most is %d", least, maxTableEntries)
		}
		if most < 0 || most > maxTableEntries {
			most = maxTableEntries
		}
		out = append(out, element, 1)
		out = appendU32(out, uint32(least))
		out = appendU32(out, uint32(most))
	}
	return out, nil
}

func checkElements(s *scanner) {
	for range s.count() {
		flag := s.u32()
		if flag > 7 {
			s.bad = true
		}
		passive, explicit, exprs := flag&1 != 0, flag&2 != 0, flag&4 != 0
		if !passive {
			if explicit {
				s.leb()
			}
			s.expr()
		}
		if passive || explicit {
			s.byte()
		}
		for range s.count() {
			if exprs {
				s.expr()
			} else {
				s.leb()
			}
			if s.bad {
				return
			}
		}
	}
}

func checkCode(s *scanner) error {
	for i := range s.count() {
		body := scanner{b: s.bytes(int(s.u32()))}
		if len(body.b) > maxBody {
			return invalid("function %d of the code section has %d bytes; the most is %d", i, len(body.b), maxBody)
		}
		total := uint64(0)
		for range body.count() {
			total += uint64(body.u32())
			body.byte()
			if body.bad {
				break
			}
		}
		if total > maxLocals {
			return invalid("function %d of the code section has %d locals; the most is %d", i, total, maxLocals)
		}
		if body.bad || s.bad {
			s.bad = true
			return nil
		}
	}
	return nil
}

func checkData(s *scanner) {
	for range s.count() {
		switch s.u32() {
		case 0:
			s.expr()
		case 1:
		case 2:
			s.leb()
			s.expr()
		default:
			s.bad = true
		}
		s.bytes(int(s.u32()))
		if s.bad {
			return
		}
	}
}

// functionNames answers the name section with its function names alone, which stack traces need; keep is false for
// any other custom section, and for names that are malformed: the standard says to ignore those.
func functionNames(s *scanner) (section []byte, keep bool) {
	defer func() { s.bad = false }()
	if s.name() != "name" {
		return nil, false
	}
	for s.left() > 0 && !s.bad {
		id := s.byte()
		sub := scanner{b: s.bytes(int(s.u32()))}
		if id != 1 {
			continue
		}
		last := int64(-1)
		for range sub.count() {
			i := int64(sub.u32())
			if sub.bytes(int(sub.u32())); sub.bad || i <= last {
				return nil, false
			}
			last = i
		}
		if sub.bad || sub.left() > 0 || s.bad {
			return nil, false
		}
		section = append(section, "\x04name\x01"...)
		section = appendU32(section, uint32(len(sub.b)))
		return append(section, sub.b...), true
	}
	return nil, false
}

func truncated(size int) error {
	return fault.New(fault.Invalid, "truncated_wasm", "the module is cut off: its %d bytes end in the middle of a section", size).
		Hint("build or upload it again")
}

func invalid(format string, args ...any) *fault.Error {
	return fault.New(fault.Invalid, "invalid_wasm", "the module is not valid: %s", fmt.Sprintf(format, args...)).
		Hint("build it again, with wasm features up to WebAssembly 2.0 only")
}
