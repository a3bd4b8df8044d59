package host

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// abiModule is the name guests import the host's functions from.
const abiModule = "wattle"

// maxError is how much of an error message is kept.
const maxError = 64 << 10

// The operations of host_call.
const (
	opReplyRead = 0
	opContext   = 1
	opFunction  = 2
)

// instantiateABI makes the module "wattle". Arguments of type i32 are decoded with api.DecodeU32: the upper half of
// their slots is not defined.
func instantiateABI(ctx context.Context, rt wazero.Runtime) error {
	const i32, i64 = api.ValueTypeI32, api.ValueTypeI64
	b := rt.NewHostModuleBuilder(abiModule)
	for _, f := range []struct {
		name            string
		params, results []api.ValueType
		do              func(c *running, m memory, stack []uint64)
	}{
		{"input_len", nil, []api.ValueType{i64}, func(c *running, _ memory, s []uint64) { s[0] = api.EncodeI64(c.input.length) }},
		{"input_read", []api.ValueType{i32, i32, i64}, []api.ValueType{i32}, inputRead},
		{"output_write", []api.ValueType{i32, i32}, nil, func(c *running, m memory, s []uint64) {
			c.write(m.view("output_write", s[0], s[1]))
		}},
		{"error_write", []api.ValueType{i32, i32}, nil, func(c *running, m memory, s []uint64) {
			text := m.view("error_write", s[0], s[1])
			c.message = append(c.message, text[:min(len(text), maxError-len(c.message))]...)
		}},
		{"log", []api.ValueType{i32, i32, i32}, nil, func(c *running, m memory, s []uint64) {
			level := Level(min(api.DecodeU32(s[0]), uint32(LevelError)))
			text := m.view("log", s[1], s[2])
			c.in = "log"
			c.log.line(level, text)
			c.in = ""
		}},
		{"emit", []api.ValueType{i32, i32}, nil, func(c *running, m memory, s []uint64) {
			c.emit(m.view("emit", s[0], s[1]))
		}},
		{"host_call", []api.ValueType{i32, i32, i32}, []api.ValueType{i64}, hostCall},
	} {
		do := f.do
		b = b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, mod api.Module, stack []uint64) {
			c := callOf(ctx)
			do(c, memory{c, mod}, stack)
		}), f.params, f.results).Export(f.name)
	}
	_, err := b.Instantiate(ctx)
	return err
}

// memory is a guest's memory as host functions see it.
type memory struct {
	c   *running
	mod api.Module
}

// view answers the guest's own bytes, valid until the host function returns. It ends the call when they do not exist.
func (m memory) view(function string, ptr, size uint64) []byte {
	p, n := api.DecodeU32(ptr), api.DecodeU32(size)
	if n == 0 {
		return nil
	}
	if m.c.linear == nil {
		exported := m.mod.ExportedMemory("memory")
		if exported == nil {
			m.c.stop(badGuest("%s: the module exports no memory named \"memory\"", function))
		}
		m.c.linear = exported
	}
	b, ok := m.c.linear.Read(p, n)
	if !ok {
		m.c.stop(badGuest("%s: %d bytes at %d lie outside of the memory of %d bytes", function, n, p, m.c.linear.Size()))
	}
	return b
}

func inputRead(c *running, m memory, s []uint64) {
	p, off := m.view("input_read", s[0], s[1]), int64(s[2])
	if off < 0 {
		c.stop(badGuest("input_read: the offset %d is negative", off))
	}
	s[0] = uint64(c.read(p, off))
}

func hostCall(c *running, m memory, s []uint64) {
	p := m.view("host_call", s[1], s[2])
	switch api.DecodeU32(s[0]) {
	case opReplyRead:
		s[0] = uint64(copy(p, c.reply))
		return
	case opContext:
		b, err := json.Marshal(c.contextReply())
		if err != nil {
			c.stop(fmt.Errorf("encode a call's context: %w", err))
		}
		c.reply = b
	case opFunction:
		c.reply = []byte(c.function)
	default:
		s[0] = api.EncodeI64(-1)
		return
	}
	s[0] = uint64(len(c.reply))
}
