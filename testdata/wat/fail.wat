;; Fails with a message; a second try may help.
(module
  (import "wattle" "error_write" (func $error (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "the lake is dry")
  (func (export "fail") (result i32) (call $error (i32.const 0) (i32.const 15)) i32.const 1)
  (func (export "silent") (result i32) i32.const 1)
  (func (export "odd") (result i32) i32.const 77))
