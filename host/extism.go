package host

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/internal/fault"
)

// extismModule is where plugins made for Extism import their functions from.
const extismModule = "extism:host/env"

// extism is the state of one call of an Extism plugin. In Extism a second WebAssembly module keeps the blocks of memory
// that plugin and host exchange; here they lie in an arena of the host. Block addresses begin at 16, so that 0 is none.
type extism struct {
	arena  []byte
	blocks map[uint64]uint64   // address to length
	free   map[uint64][]uint64 // rounded length to addresses
	vars   map[string][]byte   // where the version has no cache

	input    []byte
	inputAt  uint64 // its block, 0 if there is none
	read     bool
	output   [2]uint64 // address, length
	failed   uint64    // the block of the error, 0 if there is none
	response *HTTPResponse
}

const (
	firstBlock = 16
	keptArena  = 1 << 20
)

func (x *extism) begin() {
	if cap(x.arena) > keptArena {
		x.arena = nil
	}
	x.arena = x.arena[:0]
	clear(x.blocks)
	clear(x.free)
	clear(x.vars)
	*x = extism{arena: x.arena, blocks: x.blocks, free: x.free, vars: x.vars}
}

// alloc makes a block of zeros. What blocks take counts as the guest's memory.
func (c *running) alloc(n uint64) uint64 {
	x := &c.extism
	if n == 0 {
		return 0
	}
	c.charge(100 + int(min(n, maxMemory)/8))
	size := (n + 7) &^ 7
	if x.blocks == nil {
		x.blocks, x.free, x.vars = map[uint64]uint64{}, map[uint64][]uint64{}, map[string][]byte{}
	}
	if same := x.free[size]; len(same) > 0 {
		at := same[len(same)-1]
		x.free[size] = same[:len(same)-1]
		clear(x.arena[at : at+size])
		x.blocks[at] = n
		return at
	}
	if len(x.arena) == 0 {
		x.arena = append(x.arena, make([]byte, firstBlock)...)
	}
	at := uint64(len(x.arena))
	if size < n || size > c.limits.Memory || at+size > c.limits.Memory-min(c.memory.size, c.limits.Memory) {
		c.stop(memoryFault(c.limits.Memory, "the plugin needs more memory than its limit of %d bytes", c.limits.Memory))
	}
	if !c.memory.budget.take(size) {
		c.stop(c.memory.budget.exhausted(size))
	}
	c.extra += size
	c.memory.peak = max(c.memory.peak, c.memory.size+c.extra)
	if end := at + size; end <= uint64(cap(x.arena)) {
		x.arena = x.arena[:end]
		clear(x.arena[at:])
	} else {
		x.arena = append(x.arena, make([]byte, size)...)
	}
	x.blocks[at] = n
	return at
}

func (c *running) release(at uint64) {
	x := &c.extism
	if n, ok := x.blocks[at]; ok && at != x.inputAt {
		delete(x.blocks, at)
		size := (n + 7) &^ 7
		x.free[size] = append(x.free[size], at)
	}
}

func (c *running) store(b []byte) uint64 {
	at := c.alloc(uint64(len(b)))
	copy(c.extism.arena[at:], b)
	return at
}

// block answers the bytes of a block, valid until the next one is made.
func (c *running) block(at uint64) []byte {
	if at == 0 {
		return nil
	}
	n, ok := c.extism.blocks[at]
	if !ok {
		c.stop(badGuest("there is no block of memory at %d", at))
	}
	return c.extism.arena[at : at+n : at+n]
}

// within answers n bytes anywhere among the blocks.
func (c *running) within(what string, at, n uint64) []byte {
	if size := uint64(len(c.extism.arena)); at > size || n > size-at {
		c.stop(badGuest("%s: %d bytes at %d lie outside of the %d bytes of blocks", what, n, at, size))
	}
	return c.extism.arena[at : at+n]
}

// whole answers the input, all of it.
func (c *running) whole() []byte {
	x := &c.extism
	if x.read {
		return x.input
	}
	x.read = true
	if b, ok := c.input.in.(bytesInput); ok {
		x.input = b
		return b
	}
	var part [32 << 10]byte
	for {
		n := c.read(part[:], int64(len(x.input)))
		if n == 0 {
			return x.input
		}
		if uint64(len(x.input)+n) > c.limits.Memory {
			c.stop(memoryFault(c.limits.Memory, "the input does not fit into the plugin's limit of %d bytes of memory", c.limits.Memory))
		}
		x.input = append(x.input, part[:n]...)
	}
}

// extismEnd takes over what a plugin that returned has written.
func (c *running) extismEnd(r ran) {
	x := &c.extism
	if c.failure != nil || r.err != nil {
		return
	}
	if x.failed != 0 {
		c.message = append(c.message[:0], x.arena[x.failed:x.failed+x.blocks[x.failed]]...)
		c.message = c.message[:min(len(c.message), maxError)]
	}
	if at, n := x.output[0], x.output[1]; n > 0 && x.failed == 0 {
		if n > c.limits.Output {
			c.failure = outputFault(c.limits.Output)
			return
		}
		c.output = n
		if c.call.Output != nil {
			if _, err := c.call.Output.Write(x.arena[at : at+n]); err != nil {
				c.failure = err
			}
		}
	}
}

func instantiateExtism(ctx context.Context, rt wazero.Runtime) error {
	const i32, i64 = api.ValueTypeI32, api.ValueTypeI64
	b := rt.NewHostModuleBuilder(extismModule)
	type types = []api.ValueType
	export := func(name string, params, results types, f func(c *running, s []uint64)) {
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, s []uint64) { f(callOf(ctx), s) }), params, results).Export(name)
	}
	export("alloc", types{i64}, types{i64}, func(c *running, s []uint64) { s[0] = c.alloc(s[0]) })
	export("free", types{i64}, nil, func(c *running, s []uint64) { c.release(s[0]) })
	for _, name := range []string{"length", "length_unsafe"} {
		export(name, types{i64}, types{i64}, func(c *running, s []uint64) { s[0] = c.extism.blocks[s[0]] })
	}
	export("load_u8", types{i64}, types{i32}, func(c *running, s []uint64) { s[0] = uint64(c.within("load_u8", s[0], 1)[0]) })
	export("load_u64", types{i64}, types{i64}, func(c *running, s []uint64) {
		s[0] = binary.LittleEndian.Uint64(c.within("load_u64", s[0], 8))
	})
	export("store_u8", types{i64, i32}, nil, func(c *running, s []uint64) { c.within("store_u8", s[0], 1)[0] = byte(s[1]) })
	export("store_u64", types{i64, i64}, nil, func(c *running, s []uint64) {
		binary.LittleEndian.PutUint64(c.within("store_u64", s[0], 8), s[1])
	})
	export("input_length", nil, types{i64}, func(c *running, s []uint64) { s[0] = uint64(len(c.whole())) })
	export("input_offset", nil, types{i64}, func(c *running, s []uint64) {
		if x := &c.extism; x.inputAt == 0 {
			x.inputAt = c.store(c.whole())
		}
		s[0] = c.extism.inputAt
	})
	input := func(c *running, at, n uint64) []byte {
		in := c.whole()
		if size := uint64(len(in)); at > size || n > size-at {
			c.stop(badGuest("input_load: %d bytes at %d lie outside of the %d bytes of input", n, at, size))
		}
		return in[at : at+n]
	}
	export("input_load_u8", types{i64}, types{i32}, func(c *running, s []uint64) { s[0] = uint64(input(c, s[0], 1)[0]) })
	export("input_load_u64", types{i64}, types{i64}, func(c *running, s []uint64) {
		s[0] = binary.LittleEndian.Uint64(input(c, s[0], 8))
	})
	export("output_set", types{i64, i64}, nil, func(c *running, s []uint64) {
		c.within("output_set", s[0], s[1])
		c.extism.output = [2]uint64{s[0], s[1]}
	})
	export("output_offset", nil, types{i64}, func(c *running, s []uint64) { s[0] = c.extism.output[0] })
	export("output_length", nil, types{i64}, func(c *running, s []uint64) { s[0] = c.extism.output[1] })
	export("error_set", types{i64}, nil, func(c *running, s []uint64) {
		c.block(s[0])
		c.extism.failed = s[0]
	})
	export("error_get", nil, types{i64}, func(c *running, s []uint64) { s[0] = c.extism.failed })
	export("memory_bytes", nil, types{i64}, func(c *running, s []uint64) { s[0] = uint64(len(c.extism.arena)) })
	export("config_get", types{i64}, types{i64}, func(c *running, s []uint64) {
		key := string(c.block(s[0]))
		if s[0] = 0; c.call.Capabilities != nil {
			if v, ok, err := c.call.Capabilities.Config(key); err == nil && ok {
				s[0] = c.store([]byte(v))
			}
		}
	})
	export("var_get", types{i64}, types{i64}, func(c *running, s []uint64) { s[0] = c.store(c.variable(string(c.block(s[0])))) })
	export("var_set", types{i64, i64}, nil, func(c *running, s []uint64) { c.setVariable(string(c.block(s[0])), c.block(s[1])) })
	export("http_request", types{i64, i64}, types{i64}, func(c *running, s []uint64) { s[0] = c.store(c.extismHTTP(c.block(s[0]), c.block(s[1]))) })
	export("http_status_code", nil, types{i32}, func(c *running, s []uint64) {
		if s[0] = 0; c.extism.response != nil {
			s[0] = uint64(c.extism.response.Status)
		}
	})
	export("http_headers", nil, types{i64}, func(c *running, s []uint64) {
		if s[0] = 0; c.extism.response != nil {
			j, _ := json.Marshal(c.extism.response.Headers) // strings are always JSON
			s[0] = c.store(j)
		}
	})
	export("get_log_level", nil, types{i32}, func(_ *running, s []uint64) { s[0] = 0 }) // everything
	for name, level := range map[string]Level{"trace": LevelDebug, "debug": LevelDebug, "info": LevelInfo, "warn": LevelWarn, "error": LevelError} {
		export("log_"+name, types{i64}, nil, func(c *running, s []uint64) {
			text := c.block(s[0])
			c.charge(500 + len(text))
			c.in = "log"
			c.log.line(level, text)
			c.in = ""
		})
	}
	_, err := b.Instantiate(ctx)
	return err
}

// variable answers one of Extism's variables. They outlive a call where the version may use the node's cache.
func (c *running) variable(name string) []byte {
	if c.call.Capabilities == nil {
		return c.extism.vars[name]
	}
	v, _, err := c.call.Capabilities.CacheGet(name)
	if fault.KindOf(err) == fault.Denied {
		return c.extism.vars[name]
	}
	if err != nil {
		c.stop(err)
	}
	return v
}

func (c *running) setVariable(name string, value []byte) {
	if grants := c.call.Capabilities; grants != nil {
		ttl := time.Duration(0)
		if value == nil {
			ttl = -1
		}
		_, _, err := grants.CachePut(name, value, ttl, nil)
		if fault.KindOf(err) != fault.Denied {
			if err != nil {
				c.stop(err)
			}
			return
		}
	}
	if c.extism.vars == nil {
		c.extism.vars = map[string][]byte{}
	}
	if value == nil {
		delete(c.extism.vars, name)
		return
	}
	size := uint64(len(value))
	for k, v := range c.extism.vars {
		if k != name {
			size += uint64(len(v))
		}
	}
	if size > maxVariables {
		c.stop(memoryFault(maxVariables, "the plugin's variables take more than %d bytes", maxVariables))
	}
	c.extism.vars[name] = append([]byte(nil), value...)
}

// maxVariables bounds the variables of a call.
const maxVariables = 1 << 20

func (c *running) extismHTTP(meta, body []byte) []byte {
	r := &HTTPRequest{Method: "GET", Body: append([]byte(nil), body...)}
	if err := json.Unmarshal(meta, r); err != nil {
		c.stop(badGuest("http_request: %w", err))
	}
	c.charge(2000)
	c.in = "http"
	res, err := c.http(r)
	c.in = ""
	if err != nil {
		c.checkTime(time.Now())
		if f := fault.As(err); f != nil && f.Kind == fault.Denied {
			g := *f
			g.Message = fmt.Sprintf("HTTP request to '%s' is not allowed: %s", r.URL, f.Message)
			err = &g
		}
		c.stop(err)
	}
	c.extism.response = res
	return res.Body
}
