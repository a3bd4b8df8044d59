package instrument

import "fmt"

// Error says why a module is refused.
type Error struct {
	// Code is a stable word: not_wasm, truncated_wasm, component, invalid_wasm, reserved_name or unsupported.
	Code    string
	Message string // for people: lower case, what is wrong
	Hint    string // what to do about it
}

func (e *Error) Error() string { return e.Message }

func notWasm(wasm []byte) *Error {
	return &Error{
		Code:    "not_wasm",
		Message: fmt.Sprintf("this is not a WebAssembly module: it starts with %.8q, not with \"\\x00asm\"", wasm[:min(8, len(wasm))]),
		Hint:    "give the .wasm file that the compiler made; text (.wat) must be assembled first",
	}
}

func truncated(size int) *Error {
	return &Error{
		Code:    "truncated_wasm",
		Message: fmt.Sprintf("the module is cut off: its %d bytes end in the middle of a section", size),
		Hint:    "build or upload it again",
	}
}

func component() *Error {
	return &Error{
		Code:    "component",
		Message: "this is a component of the component model, which is not supported",
		Hint: "build a core module instead: for Rust the target wasm32-wasip1 or wasm32-unknown-unknown, " +
			"for Go GOOS=wasip1 GOARCH=wasm",
	}
}

func invalid(format string, args ...any) *Error {
	return &Error{
		Code:    "invalid_wasm",
		Message: "the module is not valid: " + fmt.Sprintf(format, args...),
		Hint:    "build it again, with wasm features up to WebAssembly 2.0 only",
	}
}

func reserved(format string, args ...any) *Error {
	return &Error{
		Code:    "reserved_name",
		Message: fmt.Sprintf(format, args...),
		Hint:    "rename it: names of this kind are kept for the host",
	}
}

func unsupported(format string, args ...any) *Error {
	return &Error{
		Code:    "unsupported",
		Message: fmt.Sprintf(format, args...),
		Hint:    "build it again, with wasm features up to WebAssembly 2.0 only",
	}
}
