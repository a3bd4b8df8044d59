package quickjs

import "math"

// hostFunctions are imported from wattle.
var hostFunctions = []struct {
	name      string
	signature signature
}{
	{"input_len", ">I"},
	{"input_read", "iiI>i"},
	{"output_write", "ii>"},
	{"error_write", "ii>"},
	{"log", "iii>"},
	{"emit", "ii>"},
	{"host_call", "iii>I"},
}

// engineFunctions are those of the engine's exports that the glue calls. A value of JavaScript is an i64.
var engineFunctions = map[string]signature{
	"_initialize":            ">",
	"malloc":                 "i>i",
	"free":                   "i>",
	"JS_NewRuntime":          ">i",
	"JS_SetMaxStackSize":     "ii>",
	"JS_SetGCThreshold":      "ii>",
	"JS_RunGC":               "i>",
	"JS_SetModuleLoaderFunc": "iiii>",
	"JS_NewContext":          "i>i",
	"JS_GetGlobalObject":     "i>I",
	"JS_NewObject":           "i>I",
	"JS_SetPropertyStr":      "iIiI>i",
	"JS_GetPropertyStr":      "iIi>I",
	"JS_NewCFunction2":       "iiiiii>I",
	"JS_DupValue":            "iI>I",
	"JS_FreeValue":           "iI>",
	"JS_Eval":                "iiiii>I",
	"JS_Call":                "iIIii>I",
	"JS_ExecutePendingJob":   "ii>i",
	"JS_GetException":        "i>I",
	"JS_ThrowReferenceError": "iii>I",
	"JS_ThrowOutOfMemory":    "i>I",
	"JS_ToInt32":             "iiI>i",
	"JS_ToInt64":             "iiI>i",
	"JS_NewNumber":           "id>I",
	"JS_NewStringLen":        "iii>I",
	"JS_ToCStringLen2":       "iiIi>i",
	"JS_FreeCString":         "ii>",
	"JS_NewUint8ArrayCopy":   "iii>I",
	"JS_GetUint8Array":       "iiI>i",
}

// How the engine writes values down: the upper half is a tag, the lower one a number or an address.
const (
	tagUndefined = 3
	tagException = 6
	undefined    = tagUndefined << 32
	exception    = tagException << 32
)

// Flags of JS_Eval.
const (
	evalScript      = 0
	evalModule      = 1
	evalCompileOnly = 1 << 5
)

// The glue's memory: words to exchange values by, then texts, then the script.
const (
	scratchWord  = 0  // a length, or a number
	scratchLong  = 8  // a number of 64 bits
	scratchArg   = 16 // an argument of a JavaScript function
	scratchCode  = 24 // what host_call answered
	scratchSize  = 64
	stackBytes   = 512 << 10 // half of what the engine is linked with: the rest is for functions that handle an overflow
	garbageBytes = 16 << 20  // allocated between two collections: most calls end before
	heapBytes    = 256 << 10 // made ready before the snapshot, so that short calls do not grow the memory
	scriptName   = "wattle"
	notFound     = "cannot import %s: only files of the project can be imported; bundle packages into one file first, e.g. with esbuild"
)

// texts are NUL-terminated and lie one after the other.
func (l *linker) texts() []string {
	all := []string{scriptName, "host", "sources", notFound}
	for _, f := range l.glue {
		if f.native {
			all = append(all, f.name)
		}
	}
	return all
}

// text is where one of them lies.
func (l *linker) text(s string) int32 {
	at := int32(scratchSize)
	for _, t := range l.texts() {
		if t == s {
			return at
		}
		at += int32(len(t)) + 1
	}
	panic("quickjs: no text " + s)
}

// constants are the glue's memory from the first text on.
func (l *linker) constants() []byte {
	var b []byte
	for _, t := range l.texts() {
		b = append(append(b, t...), 0)
	}
	return append(append(b, l.script...), 0)
}

// argument pushes argument i of a native function, whose parameters are context, this, count and arguments.
func (a *asm) argument(i uint32) *asm { return a.get(3).load64(8 * i) }

// argumentInt pushes it as an i32.
func (a *asm) argumentInt(i uint32) *asm {
	return a.get(0).scratch(scratchWord).argument(i).call("JS_ToInt32").drop().scratch(scratchWord).load32(0)
}

// failed pushes whether the value in the local is an exception.
func (a *asm) failed(local uint32) *asm {
	return a.get(local).i64(32).op(opI64ShrU, opI32WrapI64).i32(tagException).op(opI32Eq)
}

// throwUnless ends a native function with an exception where the i32 on the stack is 0.
func (a *asm) throwUnless() *asm {
	return a.op(opI32Eqz).when().i64(exception).ret().end()
}

const nativeSignature = "iIii>I"

func native(name string, locals []byte, assemble func(a *asm)) function {
	return function{name: name, signature: nativeSignature, locals: locals, native: true, assemble: assemble}
}

// glue answers the glue's functions. JavaScript sees the native ones as members of globalThis.host; what they do is said in
// sdk-guest/javascript/wattle.js, which is their only caller.
func glue() []function {
	const l0, l1, l2 = 4, 5, 6 // the first locals of native functions
	return []function{
		native("inputLength", nil, func(a *asm) {
			a.get(0).call("wattle.input_len").op(opF64FromI64).call("JS_NewNumber")
		}),
		native("read", []byte{i32, i64}, func(a *asm) {
			a.argumentInt(1).call("malloc").tee(l0).op(opI32Eqz).when().get(0).call("JS_ThrowOutOfMemory").ret().end()
			a.get(0).scratch(scratchLong).argument(0).call("JS_ToInt64").drop()
			a.get(0).get(l0)
			a.get(l0).argumentInt(1).scratch(scratchLong).load64(0).call("wattle.input_read")
			a.call("JS_NewUint8ArrayCopy").set(l1)
			a.get(l0).call("free").get(l1)
		}),
		native("sendBytes", []byte{i32}, func(a *asm) {
			a.get(0).scratch(scratchLong).argument(1).call("JS_GetUint8Array").tee(l0).throwUnless()
			a.argumentInt(0).get(l0).scratch(scratchLong).load32(0).call("send").i64(undefined)
		}),
		native("sendText", []byte{i32}, func(a *asm) {
			a.get(0).scratch(scratchLong).argument(1).i32(0).call("JS_ToCStringLen2").tee(l0).throwUnless()
			a.argumentInt(0).get(l0).scratch(scratchLong).load32(0).call("send")
			a.get(0).get(l0).call("JS_FreeCString").i64(undefined)
		}),
		native("text", []byte{i32, i32}, func(a *asm) {
			a.get(0).scratch(scratchLong).argument(0).call("JS_GetUint8Array").tee(l0).throwUnless()
			a.argumentInt(1).set(l1)
			a.get(0).get(l0).get(l1).op(opI32Add).argumentInt(2).get(l1).op(opI32Sub).call("JS_NewStringLen")
		}),
		native("bytes", []byte{i32, i64}, func(a *asm) {
			a.get(0).scratch(scratchLong).argument(0).i32(0).call("JS_ToCStringLen2").tee(l0).throwUnless()
			a.get(0).get(l0).scratch(scratchLong).load32(0).call("JS_NewUint8ArrayCopy").set(l1)
			a.get(0).get(l0).call("JS_FreeCString").get(l1)
		}),
		native("put", []byte{i32, i32, i32, i32}, func(a *asm) {
			const to, text, length = l0, l1, l2 // l2 + 1 is the place in the array
			const at = l2 + 1
			a.get(0).scratch(scratchArg).argument(0).call("JS_GetUint8Array").tee(to).throwUnless()
			a.get(0).scratch(scratchLong).argument(2).i32(0).call("JS_ToCStringLen2").tee(text).throwUnless()
			a.scratch(scratchLong).load32(0).set(length)
			a.argumentInt(1).set(at)
			a.block()
			// A length has at most 5 bytes.
			a.get(at).i32(5).op(opI32Add).get(length).op(opI32Add).scratch(scratchArg).load32(0).op(opI32GtU).when().i32(-1).set(at).br(1).end()
			a.scratch(scratchLong).get(length).store32(0)
			a.loop()
			a.scratch(scratchLong).load32(0).i32(0x80).op(opI32GeU).when()
			a.get(to).get(at).op(opI32Add).scratch(scratchLong).load32(0).i32(0x80).op(opI32Or).store8(0)
			a.get(at).i32(1).op(opI32Add).set(at)
			a.scratch(scratchLong).scratch(scratchLong).load32(0).i32(7).op(opI32ShrU).store32(0)
			a.br(1).end().end()
			a.get(to).get(at).op(opI32Add).scratch(scratchLong).load32(0).store8(0)
			a.get(at).i32(1).op(opI32Add).set(at)
			a.get(to).get(at).op(opI32Add).get(text).get(length).memoryCopy()
			a.get(at).get(length).op(opI32Add).set(at)
			a.end()
			a.get(0).get(text).call("JS_FreeCString").get(at).op(opI64ExtendI32U)
		}),
		native("ask", []byte{i32, i32, i64}, func(a *asm) {
			const at, size, reply = l0, l1, l2
			a.get(0).scratch(scratchWord).argument(1).call("JS_GetUint8Array").tee(at).throwUnless()
			a.scratch(scratchWord).load32(0).set(size)
			a.argumentInt(0).get(at).get(size).call("wattle.host_call").set(reply)
			a.scratch(scratchCode).get(reply).store64(0)
			// 0 and more are lengths of replies, -1 is none, and -2 and less are lengths of errors.
			a.get(reply).i64(63).op(opI64ShrS).get(reply).op(opI64Xor).get(reply).i64(63).op(opI64ShrU, opI64Sub, opI32WrapI64).tee(size)
			a.i32(1).op(opI32Add).call("malloc").tee(at).op(opI32Eqz).when().get(0).call("JS_ThrowOutOfMemory").ret().end()
			a.i32(0).get(at).get(size).call("wattle.host_call").drop()
			a.get(0).get(at).get(size).call("JS_NewUint8ArrayCopy").set(reply)
			a.get(at).call("free").get(reply)
		}),
		native("askCode", nil, func(a *asm) {
			a.get(0).scratch(scratchCode).load64(0).op(opF64FromI64).call("JS_NewNumber")
		}),
		native("random", nil, func(a *asm) {
			a.scratch(scratchLong).i32(8).call("wasi.random_get").drop()
			a.get(0).scratch(scratchLong).load64(0).i64(11).op(opI64ShrU, opF64FromI64).f64(math.Float64bits(0x1p-53)).op(opF64Mul).call("JS_NewNumber")
		}),
		native("ready", nil, func(a *asm) {
			a.get(0).argument(0).call("JS_DupValue").store(globalReady).i64(undefined)
		}),

		{name: "send", signature: "iii>", assemble: func(a *asm) {
			for op, f := range []string{"wattle.output_write", "wattle.error_write", "wattle.emit"} {
				a.get(0).i32(int32(op)).op(opI32Eq).when().get(1).get(2).call(f).ret().end()
			}
			a.get(0).i32(3).op(opI32Sub).get(1).get(2).call("wattle.log")
		}},
		// load answers the module of that name to the engine, compiled but not evaluated; 0 where there is an exception.
		{name: "load", signature: "iii>i", locals: []byte{i64, i64, i32}, assemble: func(a *asm) {
			const value, source, text = 3, 4, 5
			a.get(0).get(0).call("JS_GetGlobalObject").tee(value).scratch(a.l.text("sources")).call("JS_GetPropertyStr").set(source)
			a.get(0).get(value).call("JS_FreeValue")
			a.get(0).get(source).get(1).call("JS_GetPropertyStr").set(value)
			a.get(0).get(source).call("JS_FreeValue")
			a.get(value).i64(undefined).op(opI64Eq).when()
			a.scratch(scratchArg).get(1).store32(0)
			a.get(0).scratch(a.l.text(notFound)).scratch(scratchArg).call("JS_ThrowReferenceError").drop().i32(0).ret().end()
			a.get(0).scratch(scratchLong).get(value).i32(0).call("JS_ToCStringLen2").tee(text).op(opI32Eqz).when().i32(0).ret().end()
			a.get(0).get(value).call("JS_FreeValue")
			a.get(0).get(text).scratch(scratchLong).load32(0).get(1).i32(evalModule | evalCompileOnly).call("JS_Eval").set(value)
			a.get(0).get(text).call("JS_FreeCString")
			a.failed(value).when().i32(0).ret().end()
			// The engine holds on to modules itself.
			a.get(0).get(value).call("JS_FreeValue").get(value).op(opI32WrapI64)
		}},
		// jobs runs what promises have left to do.
		{name: "jobs", signature: ">", assemble: func(a *asm) {
			a.loop().load(globalRuntime).scratch(scratchArg).call("JS_ExecutePendingJob").brIf(0).end()
		}},
		// complain makes the pending exception the call's error.
		{name: "complain", signature: ">", locals: []byte{i32}, assemble: func(a *asm) {
			a.load(globalContext).scratch(scratchLong).load(globalContext).call("JS_GetException").i32(0).call("JS_ToCStringLen2").tee(0)
			a.when().get(0).scratch(scratchLong).load32(0).call("wattle.error_write").end()
		}},
		// run calls what host.ready was given with a number, twice: to begin, and to learn the status when all promises are settled.
		{name: "run", signature: "i>i", locals: []byte{i32, i64}, assemble: func(a *asm) {
			const rounds, value = 1, 2
			// A script that never came so far has left its exception.
			a.load(globalReady).op(opI64Eqz).when().call("complain").i32(2).ret().end()
			a.loop()
			a.scratch(scratchArg).get(0).op(opI64ExtendI32U).store64(0)
			a.load(globalContext).load(globalReady).i64(undefined).i32(1).scratch(scratchArg).call("JS_Call").tee(value).drop()
			a.failed(value).when().call("complain").i32(2).ret().end()
			a.call("jobs")
			a.i32(0).set(0)
			a.get(rounds).i32(1).op(opI32Add).tee(rounds).i32(2).op(opI32LtS).brIf(0)
			a.end()
			a.get(value).op(opI32WrapI64)
		}},
		{name: "export._initialize", signature: ">", locals: []byte{i64, i32}, export: true, assemble: initialize},
		{name: "export.wattle_call", signature: ">i", export: true, assemble: func(a *asm) { a.i32(1).call("run") }},
		{name: "export.wattle_describe", signature: ">i", export: true, assemble: func(a *asm) { a.i32(2).call("run") }},

		// What the engine asks its embedder for. The time zone is UTC; the others are used only by those who ask for them.
		{name: "env.host_get_timezone_offset", signature: "ii>i", assemble: func(a *asm) { a.i32(0) }},
		{name: "env.host_interrupt", signature: ">i", assemble: func(a *asm) { a.i32(0) }},
		{name: "env.host_promise_rejection", signature: "iii>", assemble: func(*asm) {}},
		{name: "env.host_module_normalize", signature: "ii>i", assemble: func(a *asm) { a.op(opUnreachable) }},
		{name: "env.host_module_load", signature: "ii>i", assemble: func(a *asm) { a.op(opUnreachable) }},
		{name: "env.host_call", signature: "iiiii>i", assemble: func(a *asm) { a.op(opUnreachable) }},
	}
}

// initialize starts the engine and evaluates the script.
func initialize(a *asm) {
	const value, text = 0, 1
	l := a.l
	constants := l.constants()
	a.call("_initialize")
	a.i32(int32(scratchSize + len(constants))).call("malloc").store(globalMemory)
	a.scratch(scratchSize).i32(0).i32(int32(len(constants))).memoryInit(l.engine.datas)
	a.call("JS_NewRuntime").store(globalRuntime)
	a.load(globalRuntime).i32(stackBytes).call("JS_SetMaxStackSize")
	a.load(globalRuntime).i32(0).i32(l.place("load")).i32(0).call("JS_SetModuleLoaderFunc")
	a.load(globalRuntime).call("JS_NewContext").store(globalContext)

	a.load(globalContext).call("JS_NewObject").set(value)
	for _, f := range l.glue {
		if f.native {
			a.load(globalContext).get(value).scratch(l.text(f.name))
			a.load(globalContext).i32(l.place(f.name)).scratch(l.text(f.name)).i32(3).i32(0).i32(0).call("JS_NewCFunction2")
			a.call("JS_SetPropertyStr").drop()
		}
	}
	a.load(globalContext).load(globalContext).call("JS_GetGlobalObject").scratch(l.text("host")).get(value).call("JS_SetPropertyStr").drop()

	a.load(globalContext).scratch(int32(scratchSize + len(constants) - len(l.script) - 1)).i32(int32(len(l.script)))
	a.scratch(l.text(scriptName)).i32(evalScript).call("JS_Eval").drop()
	a.call("jobs")
	a.load(globalRuntime).call("JS_RunGC")
	a.load(globalRuntime).i32(garbageBytes).call("JS_SetGCThreshold")
	a.i32(heapBytes).call("malloc").tee(text).call("free")
}
