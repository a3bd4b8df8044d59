;; Reads its input backwards: bytes 4..8, then 0..4.
(module
  (import "wattle" "input_read" (func $read (param i32 i32 i64) (result i32)))
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "forward") (result i32)
    (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 2) (i64.const 1)))
    (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 2) (i64.const 5)))
    i32.const 0)
  (func (export "backward") (result i32)
    (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 4) (i64.const 4)))
    (call $write (i32.const 0) (call $read (i32.const 0) (i32.const 4) (i64.const 0)))
    i32.const 0))
