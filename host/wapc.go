package host

import (
	"context"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

// wapcModule is where guests of waPC import their functions from.
const wapcModule = "wapc"

// wapc is the state of one call of a waPC guest.
type wapc struct {
	response []byte
	failure  []byte
}

func instantiateWapc(ctx context.Context, rt wazero.Runtime) error {
	const i32 = api.ValueTypeI32
	b := rt.NewHostModuleBuilder(wapcModule)
	export := func(name string, params, results int, f func(c *running, s []uint64)) {
		types := []api.ValueType{i32, i32, i32, i32, i32, i32, i32, i32}
		b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, s []uint64) { f(callOf(ctx), s) }), types[:params], types[:results]).Export(name)
	}
	export("__guest_request", 2, 0, func(c *running, s []uint64) {
		in := c.whole()
		copy(c.view("__guest_request", s[0], uint64(len(c.function))), c.function)
		copy(c.view("__guest_request", s[1], uint64(len(in))), in)
	})
	export("__guest_response", 2, 0, func(c *running, s []uint64) { c.write(c.view("__guest_response", s[0], s[1])) })
	export("__guest_error", 2, 0, func(c *running, s []uint64) {
		text := c.view("__guest_error", s[0], s[1])
		c.message = append(c.message[:0], text[:min(len(text), maxError)]...)
	})
	// Binding and namespace name a service, the operation a function.
	export("__host_call", 8, 1, func(c *running, s []uint64) {
		text := func(i int) string { return string(c.view("__host_call", s[i], s[i+1])) }
		service := text(2)
		if service == "" {
			service = text(0)
		}
		r := &Invocation{Service: service, Function: text(4), Payload: append([]byte(nil), c.view("__host_call", s[6], s[7])...)}
		c.charge(2000 + len(r.Payload)/8)
		c.in = "host_call"
		out, err := c.invoke(r)
		c.in = ""
		if err != nil {
			c.checkTime(time.Now())
			c.wapc = wapc{failure: []byte(err.Error())}
			s[0] = 0
			return
		}
		c.wapc = wapc{response: out}
		s[0] = 1
	})
	export("__host_response_len", 0, 1, func(c *running, s []uint64) { s[0] = uint64(len(c.wapc.response)) })
	export("__host_response", 1, 0, func(c *running, s []uint64) {
		copy(c.view("__host_response", s[0], uint64(len(c.wapc.response))), c.wapc.response)
	})
	export("__host_error_len", 0, 1, func(c *running, s []uint64) { s[0] = uint64(len(c.wapc.failure)) })
	export("__host_error", 1, 0, func(c *running, s []uint64) {
		copy(c.view("__host_error", s[0], uint64(len(c.wapc.failure))), c.wapc.failure)
	})
	export("__console_log", 2, 0, func(c *running, s []uint64) {
		text := c.view("__console_log", s[0], s[1])
		c.charge(500 + len(text))
		c.in = "log"
		c.log.line(LevelInfo, text)
		c.in = ""
	})
	_, err := b.Instantiate(ctx)
	return err
}
