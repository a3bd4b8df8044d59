package quickjs

// asm assembles the body of one function. Its locals are numbered from the parameters on.
type asm struct {
	l      *linker
	locals []byte // types
	b      []byte
}

// val types of locals.
const (
	i32 = 0x7f
	i64 = 0x7e
)

func (a *asm) op(ops ...byte) *asm {
	a.b = append(a.b, ops...)
	return a
}

func (a *asm) index(op byte, i uint32) *asm {
	a.b = appendU32(append(a.b, op), i)
	return a
}

func (a *asm) get(local uint32) *asm  { return a.index(0x20, local) }
func (a *asm) set(local uint32) *asm  { return a.index(0x21, local) }
func (a *asm) tee(local uint32) *asm  { return a.index(0x22, local) }
func (a *asm) load(g global) *asm     { return a.index(0x23, a.l.global(g)) }
func (a *asm) store(g global) *asm    { return a.index(0x24, a.l.global(g)) }
func (a *asm) call(name string) *asm  { return a.index(0x10, a.l.function(name)) }
func (a *asm) br(depth uint32) *asm   { return a.index(0x0c, depth) }
func (a *asm) brIf(depth uint32) *asm { return a.index(0x0d, depth) }

func (a *asm) i32(v int32) *asm {
	a.b = appendSigned(append(a.b, 0x41), int64(v))
	return a
}

func (a *asm) i64(v int64) *asm {
	a.b = appendSigned(append(a.b, 0x42), v)
	return a
}

// scratch pushes an address in the glue's own memory.
func (a *asm) scratch(offset int32) *asm {
	a.load(globalMemory)
	if offset != 0 {
		a.i32(offset).op(opI32Add)
	}
	return a
}

// load32 and the others take the address from the stack.
func (a *asm) load32(offset uint32) *asm  { return a.memory(0x28, 2, offset) }
func (a *asm) load64(offset uint32) *asm  { return a.memory(0x29, 3, offset) }
func (a *asm) store32(offset uint32) *asm { return a.memory(0x36, 2, offset) }
func (a *asm) store64(offset uint32) *asm { return a.memory(0x37, 3, offset) }
func (a *asm) store8(offset uint32) *asm  { return a.memory(0x3a, 0, offset) }

func (a *asm) memory(op, align byte, offset uint32) *asm {
	a.b = appendU32(append(a.b, op, align), offset)
	return a
}

// block, loop and when are left without a value; when runs what follows where the i32 on the stack is not 0.
func (a *asm) block() *asm { return a.op(0x02, 0x40) }
func (a *asm) loop() *asm  { return a.op(0x03, 0x40) }
func (a *asm) when() *asm  { return a.op(0x04, 0x40) }
func (a *asm) end() *asm   { return a.op(0x0b) }
func (a *asm) ret() *asm   { return a.op(0x0f) }
func (a *asm) drop() *asm  { return a.op(0x1a) }

// Instructions without operands.
const (
	opUnreachable   = 0x00
	opI32Eqz        = 0x45
	opI32Eq         = 0x46
	opI32LtS        = 0x48
	opI32GtU        = 0x4b
	opI32GeU        = 0x4f
	opI64Eqz        = 0x50
	opI64Eq         = 0x51
	opI32Add        = 0x6a
	opI32Sub        = 0x6b
	opI32Or         = 0x72
	opI32ShrU       = 0x76
	opI64Sub        = 0x7d
	opI64Xor        = 0x85
	opI64ShrS       = 0x87
	opI64ShrU       = 0x88
	opF64Mul        = 0xa2
	opI32WrapI64    = 0xa7
	opI64ExtendI32U = 0xad
	opF64FromI64    = 0xb9
)

func (a *asm) f64(bits uint64) *asm {
	a.b = append(a.b, 0x44)
	for i := range 8 {
		a.b = append(a.b, byte(bits>>(8*i)))
	}
	return a
}

// memoryInit copies from a passive segment, whose offset and length are on the stack behind the address.
func (a *asm) memoryInit(segment uint32) *asm {
	a.b = append(appendU32(append(a.b, 0xfc, 8), segment), 0)
	return a
}

func (a *asm) memoryCopy() *asm { return a.op(0xfc, 10, 0, 0) }

// body encodes the function.
func (a *asm) body() []byte {
	b := appendU32(nil, uint32(len(a.locals)))
	for _, t := range a.locals {
		b = append(b, 1, t)
	}
	return append(append(b, a.b...), 0x0b)
}
