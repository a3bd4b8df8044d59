package instrument

const pageSize = 65536

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
	secTag
)

// order is where a section may stand. Tags and the data count were numbered late.
var order = [...]int{
	secType: 1, secImport: 2, secFunction: 3, secTable: 4, secMemory: 5, secTag: 6, secGlobal: 7, secExport: 8,
	secStart: 9, secElement: 10, secDataCount: 11, secCode: 12, secData: 13,
}

var sectionNames = [...]string{
	"custom", "type", "import", "function", "table", "memory", "global", "export", "start", "element", "code", "data",
	"data count", "tag",
}

type section struct {
	id   byte
	body []byte
}

// module is what is known of a module while it is rewritten. Indices are the original's everywhere.
type module struct {
	options  Options
	tuning   tuning
	wasm     []byte
	ours     bool // it came out of here: tests look at such ones
	sections []section

	types    []funcType
	imports  []Import
	imported [Tag + 1]int
	funcs    []uint32 // type of each function, imported ones first
	tables   []tableType
	memory   limits // the defined one
	memories int
	tags     int
	globals  []globalType
	captured []uint32 // indices of globals
	start    int64    // -1: none
	elements int
	data     int
	bodies   [][]byte

	startDeclared bool // apart from being the start function
	names         []byte

	uses    uses
	callees []callee // the defined functions
	reasons []string
	noted   place // of the last reason
}

// uses says which helpers and hooks the code needs.
type uses struct {
	fill, copy, bulk, grow bool
}

type funcType struct{ params, results uint32 }

type tableType struct {
	element []byte // its type
	limits
	init  []byte // constant expression, if any
	grows bool
}

func (t tableType) most() uint32 {
	if t.grows {
		return t.max
	}
	return t.min
}

type globalType struct {
	kind    byte // the first byte of its type
	mutable bool
}

func (m *module) defined() int { return len(m.funcs) - m.imported[Function] }

// split finds the sections.
func (m *module) split() *Error {
	s := scanner{b: m.wasm, at: 8}
	last := 0
	for s.left() > 0 {
		id := s.byte()
		body := s.bytes(s.u32())
		switch {
		case int(id) >= len(sectionNames):
			return invalid("section id %d is not known", id)
		case s.bad:
			return truncated(len(m.wasm))
		case id != secCustom && order[id] <= last:
			return invalid("the %s section is out of order", sectionNames[id])
		}
		last = max(last, order[id])
		m.sections = append(m.sections, section{id, body})
	}
	return nil
}

// read reads all sections but the code.
func (m *module) read() *Error {
	readers := [...]func(*scanner) *Error{
		secCustom: m.readCustom, secType: m.readTypes, secImport: m.readImports, secFunction: m.readFunctions,
		secTable: m.readTables, secMemory: m.readMemory, secGlobal: m.readGlobals, secExport: m.readExports,
		secStart: m.readStart, secElement: m.readElements, secCode: m.readBodies, secData: m.readData,
		secDataCount: m.readDataCount, secTag: m.readTags,
	}
	m.start = -1
	m.countAhead()
	for _, sec := range m.sections {
		s := scanner{b: sec.body}
		if err := readers[sec.id](&s); err != nil {
			return err
		}
		if s.bad || s.left() > 0 {
			return invalid("the %s section is malformed", sectionNames[sec.id])
		}
	}
	if m.memories > 1 {
		return invalid("it has %d memories; the most is 1", m.memories)
	}
	if m.defined() != len(m.bodies) {
		return invalid("it declares %d functions and defines %d", m.defined(), len(m.bodies))
	}
	return nil
}

// countAhead learns what earlier sections refer to in later ones.
func (m *module) countAhead() {
	for _, sec := range m.sections {
		s := scanner{b: sec.body}
		switch sec.id {
		case secStart:
			m.start = int64(s.u32())
		case secElement:
			m.elements = s.count()
		case secData:
			m.data = s.count()
		}
	}
}

// bound gives tables that grow an end, and all of them together at most MaxEntries entries: engines keep them outside of
// the limit on memory.
func (m *module) bound() *Error {
	defined := m.tables[m.imported[Table]:]
	free, growing := uint64(m.options.MaxEntries), uint64(0)
	for _, t := range defined {
		if uint64(t.min) > free {
			return invalid("its tables have more than %d entries together", m.options.MaxEntries)
		}
		free -= uint64(t.min)
		if t.grows {
			growing++
		}
	}
	for i := range defined {
		if t := &defined[i]; t.grows {
			if most := t.min + uint32(free/growing); !t.bounded || t.max > most {
				t.flag, t.bounded, t.max = 1, true, most
			}
		}
	}
	return nil
}
