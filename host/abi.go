package host

import (
	"context"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// abiModule is the name guests import the host's functions from.
const abiModule = "wattle"

// maxError is how much of an error message is kept.
const maxError = 64 << 10

// instantiateABI makes the module "wattle". Arguments of type i32 are decoded with api.DecodeU32: the upper half of
// their slots is not defined.
func instantiateABI(ctx context.Context, rt wazero.Runtime) error {
	const i32, i64 = api.ValueTypeI32, api.ValueTypeI64
	b := rt.NewHostModuleBuilder(abiModule)
	for _, f := range []struct {
		name            string
		params, results []api.ValueType
		do              func(c *running, stack []uint64)
	}{
		{"input_len", nil, []api.ValueType{i64}, func(c *running, s []uint64) { s[0] = api.EncodeI64(c.input.length) }},
		{"input_read", []api.ValueType{i32, i32, i64}, []api.ValueType{i32}, inputRead},
		{"output_write", []api.ValueType{i32, i32}, nil, func(c *running, s []uint64) {
			c.write(c.view("output_write", s[0], s[1]))
		}},
		{"error_write", []api.ValueType{i32, i32}, nil, func(c *running, s []uint64) {
			text := c.view("error_write", s[0], s[1])
			c.charge(100 + len(text)/8)
			c.message = append(c.message, text[:min(len(text), maxError-len(c.message))]...)
		}},
		{"log", []api.ValueType{i32, i32, i32}, nil, func(c *running, s []uint64) {
			level := Level(min(api.DecodeU32(s[0]), uint32(LevelError)))
			text := c.view("log", s[1], s[2])
			c.charge(500 + len(text))
			c.in = "log"
			c.log.line(level, text)
			c.in = ""
		}},
		{"emit", []api.ValueType{i32, i32}, nil, func(c *running, s []uint64) {
			c.emit(c.view("emit", s[0], s[1]))
		}},
		{"host_call", []api.ValueType{i32, i32, i32}, []api.ValueType{i64}, hostCall},
	} {
		do := f.do
		b = b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
			do(callOf(ctx), stack)
		}), f.params, f.results).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// view answers the guest's own bytes, valid until the host function returns. It ends the call when they do not exist.
func (c *running) view(function string, ptr, size uint64) []byte {
	p, n := uint64(api.DecodeU32(ptr)), uint64(api.DecodeU32(size))
	if n == 0 {
		return nil
	}
	m := c.memory
	if p+n > m.size {
		if m.region == nil {
			c.stop(badGuest("%s: the module has no memory", function))
		}
		c.stop(badGuest("%s: %d bytes at %d lie outside of the memory of %d bytes", function, n, p, m.size))
	}
	return m.region.bytes(m.size)[p : p+n : p+n]
}

func inputRead(c *running, s []uint64) {
	p, off := c.view("input_read", s[0], s[1]), int64(s[2])
	if off < 0 {
		c.stop(badGuest("input_read: the offset %d is negative", off))
	}
	s[0] = uint64(c.read(p, off))
}
