package host

import (
	"context"
	"crypto/rand"
	"reflect"
	"runtime"
	"slices"

	"github.com/samber/lo"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

const wasiModule = wasi_snapshot_preview1.ModuleName

// Of WASI's error numbers.
const (
	wasiSuccess = 0
	wasiBadf    = 8
	wasiNotsup  = 58
)

// instantiateWASI makes WASI preview 1 from wazero's, with other functions where those leave something behind in the
// instance: a call must not find what the one before it did. Guests have no files but the standard three, or else an
// instance for one call only.
func instantiateWASI(ctx context.Context, rt wazero.Runtime) error {
	const i32 = api.ValueTypeI32
	b := rt.NewHostModuleBuilder(wasi_snapshot_preview1.ModuleName)
	wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
	export := func(name string, params, results []api.ValueType, f func(c *running, m api.Module, stack []uint64)) {
		b.NewFunctionBuilder().WithGoModuleFunction(api.GoModuleFunc(func(ctx context.Context, m api.Module, stack []uint64) {
			f(callOf(ctx), m, stack)
		}), params, results).Export(name)
	}
	// wazero's would close the instance.
	export("proc_exit", []api.ValueType{i32}, nil, func(_ *running, _ api.Module, s []uint64) {
		panic(sys.NewExitError(api.DecodeU32(s[0])))
	})
	export("fd_close", []api.ValueType{i32}, []api.ValueType{i32}, func(c *running, m api.Module, s []uint64) {
		fd := api.DecodeU32(s[0])
		if c.files {
			s[0] = changeFiles(m, "CloseFile", s[0])
			return
		}
		if fd > 2 || c.closed&(1<<fd) != 0 {
			s[0] = wasiBadf
			return
		}
		c.closed |= 1 << fd
		s[0] = wasiSuccess
	})
	export("random_get", []api.ValueType{i32, i32}, []api.ValueType{i32}, func(c *running, _ api.Module, s []uint64) {
		b := c.view("random_get", s[0], s[1])
		for part := range slices.Chunk(b, maxRandom) {
			c.charge(200 + randomPrice*len(part))
			rand.Read(part) // it never fails
			if c.instance.fuel() < 0 {
				c.slice()
			}
		}
		s[0] = wasiSuccess
	})
	export("sched_yield", nil, []api.ValueType{i32}, func(c *running, _ api.Module, s []uint64) {
		c.charge(1000)
		runtime.Gosched()
		s[0] = wasiSuccess
	})
	export("fd_renumber", []api.ValueType{i32, i32}, []api.ValueType{i32}, func(c *running, m api.Module, s []uint64) {
		if c.files {
			s[0] = changeFiles(m, "Renumber", s[0], s[1])
			return
		}
		if api.DecodeU32(s[0]) > 2 || api.DecodeU32(s[1]) > 2 {
			s[0] = wasiBadf
			return
		}
		s[0] = wasiNotsup
	})
	export("fd_fdstat_set_flags", []api.ValueType{i32, i32}, []api.ValueType{i32}, func(c *running, _ api.Module, s []uint64) {
		if api.DecodeU32(s[0]) > 2 && !c.files {
			s[0] = wasiBadf
			return
		}
		s[0] = wasiSuccess // none of them changes anything for what is read and written at once
	})
	_, err := b.Instantiate(ctx)
	return err
}

// changeFiles calls what wazero has for its own fd_close and fd_renumber, which it does not show.
func changeFiles(m api.Module, method string, fds ...uint64) uint64 {
	in := lo.Map(fds, func(fd uint64, _ int) reflect.Value { return reflect.ValueOf(api.DecodeI32(fd)) })
	files := reflect.ValueOf(m).Elem().FieldByName("Sys").MethodByName("FS").Call(nil)[0]
	errno := files.MethodByName(method).Call(in)[0].Interface().(experimentalsys.Errno)
	if errno == 0 {
		return wasiSuccess
	}
	return wasiBadf
}
