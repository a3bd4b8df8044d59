;; Writes what the host tells about the call to the output.
(module
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (import "wattle" "host_call" (func $host (param i32 i32 i32) (result i64)))
  (memory (export "memory") 2)
  (func (export "context") (result i32)
    (drop (call $host (i32.const 1) (i32.const 0) (i32.const 0)))
    (call $write (i32.const 0) (i32.wrap_i64 (call $host (i32.const 0) (i32.const 0) (i32.const 65536))))
    i32.const 0))
