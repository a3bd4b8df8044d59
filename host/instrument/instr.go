package instrument

// Opcodes that are treated by name.
const (
	opUnreachable        = 0x00
	opBlock              = 0x02
	opLoop               = 0x03
	opIf                 = 0x04
	opElse               = 0x05
	opThrow              = 0x08
	opThrowRef           = 0x0a
	opEnd                = 0x0b
	opBr                 = 0x0c
	opBrIf               = 0x0d
	opBrTable            = 0x0e
	opReturn             = 0x0f
	opCall               = 0x10
	opCallIndirect       = 0x11
	opReturnCall         = 0x12
	opReturnCallIndirect = 0x13
	opCallRef            = 0x14
	opReturnCallRef      = 0x15
	opTryTable           = 0x1f
	opLocalGet           = 0x20
	opLocalSet           = 0x21
	opLocalTee           = 0x22
	opGlobalGet          = 0x23
	opGlobalSet          = 0x24
	opTableSet           = 0x26
	opMemorySize         = 0x3f
	opMemoryGrow         = 0x40
	opI32Const           = 0x41
	opI64Const           = 0x42
	opRefFunc            = 0xd2
	opRefAsNonNull       = 0xd4
	opBrOnNull           = 0xd5
	opBrOnNonNull        = 0xd6

	opMisc   = 0xfc
	opVector = 0xfd
	opAtomic = 0xfe

	miscMemoryInit = 8
	miscDataDrop   = 9
	miscMemoryCopy = 10
	miscMemoryFill = 11
	miscTableInit  = 12
	miscElemDrop   = 13
	miscTableCopy  = 14
	miscTableGrow  = 15
	miscTableSize  = 16
	miscTableFill  = 17
)

// operand is what follows an opcode.
type operand byte

const (
	unknown operand = iota
	nothing
	blockType
	label
	labels
	function
	typeAndTable
	typeIndex
	selectType
	local
	global
	table
	memoryAccess
	zeroByte
	number32
	number64
	float32bits
	float64bits
	heapType
	tag
	catches
	prefixed
)

var operands = func() (t [256]operand) {
	fill := func(from, to int, o operand) {
		for op := from; op <= to; op++ {
			t[op] = o
		}
	}
	fill(0x00, 0x01, nothing)
	fill(opBlock, opIf, blockType)
	t[opElse], t[opEnd], t[opReturn] = nothing, nothing, nothing
	t[opThrow], t[opThrowRef], t[opTryTable] = tag, nothing, catches
	t[opBr], t[opBrIf], t[opBrTable] = label, label, labels
	t[opCall], t[opReturnCall] = function, function
	t[opCallIndirect], t[opReturnCallIndirect] = typeAndTable, typeAndTable
	t[opCallRef], t[opReturnCallRef] = typeIndex, typeIndex
	fill(0x1a, 0x1b, nothing) // drop, select
	t[0x1c] = selectType
	fill(opLocalGet, opLocalTee, local)
	fill(opGlobalGet, opGlobalSet, global)
	fill(0x25, opTableSet, table)
	fill(0x28, 0x3e, memoryAccess)
	fill(opMemorySize, opMemoryGrow, zeroByte)
	t[opI32Const], t[opI64Const], t[0x43], t[0x44] = number32, number64, float32bits, float64bits
	fill(0x45, 0xc4, nothing)
	t[0xd0], t[0xd1], t[opRefFunc], t[opRefAsNonNull] = heapType, nothing, function, nothing
	t[opBrOnNull], t[opBrOnNonNull] = label, label
	fill(opMisc, opAtomic, prefixed)
	return t
}()

// names of instructions that a message may have to name.
var names = map[byte]string{
	0x06: "try", 0x07: "catch", opThrow: "throw", 0x09: "rethrow", opThrowRef: "throw_ref",
	opReturnCall: "return_call", opReturnCallIndirect: "return_call_indirect",
	opCallRef: "call_ref", opReturnCallRef: "return_call_ref",
	0x18: "delegate", 0x19: "catch_all", opTryTable: "try_table", opTableSet: "table.set",
	opRefAsNonNull: "ref.as_non_null", opBrOnNull: "br_on_null", opBrOnNonNull: "br_on_non_null",
}

var miscNames = map[uint32]string{
	miscMemoryInit: "memory.init", miscDataDrop: "data.drop", miscMemoryCopy: "memory.copy", miscMemoryFill: "memory.fill",
	miscTableInit: "table.init", miscElemDrop: "elem.drop", miscTableCopy: "table.copy", miscTableGrow: "table.grow",
	miscTableFill: "table.fill",
}

// gate answers the proposal an instruction belongs to, for those that are off by default.
func gate(op byte) (Features, string) {
	switch op {
	case opReturnCall, opReturnCallIndirect:
		return TailCall, "tail calls"
	case opThrow, opThrowRef, opTryTable:
		return ExceptionHandling, "exception handling"
	case opCallRef, opReturnCallRef, opRefAsNonNull, opBrOnNull, opBrOnNonNull:
		return TypedFunctionReferences, "typed function references"
	case opAtomic:
		return Threads, "threads"
	}
	return 0, ""
}
