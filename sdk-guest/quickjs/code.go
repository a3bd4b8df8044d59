package quickjs

// renumber copies a function's body and changes the functions it names. It knows what C compilers emit for the targets that the
// engine is built for, and refuses all else by its number.
func renumber(body []byte, function func(uint32) uint32) ([]byte, error) {
	r := &reader{b: body}
	out := make([]byte, 0, len(body)+len(body)/8)
	copied := 0
	// Locals come first: how many, and of which type.
	r.vector(func(int) { r.u32(); r.byte() })
	for r.more() {
		op := r.byte()
		switch {
		case op == 0x10, op == 0x12, op == 0xd2: // call, return_call, ref.func
			out = append(out, body[copied:r.at]...)
			out = appendU32(out, function(r.u32()))
			copied = r.at
		case op == 0x0e: // br_table
			r.vector(func(int) { r.u32() })
			r.u32()
		case op == 0x11: // call_indirect
			r.u32()
			r.u32()
		case op >= 0x28 && op <= 0x3e: // loads and stores
			r.u32()
			r.u32()
		case op == 0x02, op == 0x03, op == 0x04, // block, loop, if: a type, which may be negative
			op == 0x0c, op == 0x0d, // br, br_if
			op >= 0x20 && op <= 0x26, // locals, globals, tables
			op == 0x3f, op == 0x40,   // memory.size, memory.grow
			op == 0x41, op == 0x42, // i32.const, i64.const
			op == 0xd0: // ref.null
			r.leb()
		case op == 0x43:
			r.bytes(4)
		case op == 0x44:
			r.bytes(8)
		case op == 0x1c: // select with types
			r.vector(func(int) { r.byte() })
		case op == 0xfc:
			switch more := r.u32(); more {
			case 0, 1, 2, 3, 4, 5, 6, 7: // saturating truncations
			case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
				r.u32()
				r.u32()
			case 9, 11, 13, 15, 16, 17: // data.drop, memory.fill, elem.drop, table.grow, table.size, table.fill
				r.u32()
			default:
				r.fail("it has the instruction 0xfc %d, which is not known here", more)
			}
		case op <= 0x01, op == 0x05, op == 0x0b, op == 0x0f, op == 0x1a, op == 0x1b, op >= 0x45 && op <= 0xc4, op == 0xd1:
			// Nothing follows: control, drop and select, comparisons, arithmetic, conversions.
		default:
			r.fail("it has the instruction 0x%02x, which is not known here", op)
		}
	}
	return append(out, body[copied:]...), r.err
}
