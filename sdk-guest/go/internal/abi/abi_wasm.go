//go:build wasip1

package abi

import "unsafe"

//go:wasmimport wattle input_len
func inputLen() int64

//go:wasmimport wattle input_read
func inputRead(ptr unsafe.Pointer, size uint32, off int64) uint32

//go:wasmimport wattle output_write
func outputWrite(ptr unsafe.Pointer, size uint32)

//go:wasmimport wattle error_write
func errorWrite(ptr unsafe.Pointer, size uint32)

//go:wasmimport wattle log
func log(level int32, ptr unsafe.Pointer, size uint32)

//go:wasmimport wattle emit
func emit(ptr unsafe.Pointer, size uint32)

//go:wasmimport wattle host_call
func hostCall(op uint32, ptr unsafe.Pointer, size uint32) int64

// Wasm is the host that runs this module.
type Wasm struct{}

func at(p []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p))
}

// InputLen implements Host.
func (Wasm) InputLen() int64 { return inputLen() }

// InputRead implements Host.
func (Wasm) InputRead(p []byte, off int64) int {
	ptr, n := at(p)
	return int(inputRead(ptr, n, off))
}

// OutputWrite implements Host.
func (Wasm) OutputWrite(p []byte) { outputWrite(at(p)) }

// ErrorWrite implements Host.
func (Wasm) ErrorWrite(p []byte) { errorWrite(at(p)) }

// Log implements Host.
func (Wasm) Log(level int32, line []byte) {
	ptr, n := at(line)
	log(level, ptr, n)
}

// Emit implements Host.
func (Wasm) Emit(batch []byte) { emit(at(batch)) }

// Context implements Host.
func (Wasm) Context() []byte { return ask(1) }

// Function implements Host.
func (Wasm) Function() string { return string(ask(2)) }

// Ask implements Host.
func (Wasm) Ask(op uint32, request []byte) ([]byte, int64) {
	ptr, n := at(request)
	code := hostCall(op, ptr, n)
	size := code
	if size < -1 {
		size = -2 - size
	}
	if size <= 0 {
		return nil, code
	}
	reply := make([]byte, size)
	ptr, n = at(reply)
	return reply[:hostCall(0, ptr, n)], code
}

// ask asks for the reply of an operation without arguments.
func ask(op uint32) []byte {
	n := hostCall(op, nil, 0)
	if n <= 0 {
		return nil
	}
	reply := make([]byte, n)
	ptr, size := at(reply)
	return reply[:hostCall(0, ptr, size)]
}
