;; Writes its stamp, 16 digits, then its input. Another stamp in the same place makes another module that says which one answered.
(module
  (import "wattle" "input_read" (func $read (param i32 i32 i64) (result i32)))
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "0000000000000000")
  (func (export "stamp") (result i32)
    (call $write (i32.const 0) (i32.const 16))
    (call $write (i32.const 1024) (call $read (i32.const 1024) (i32.const 32768) (i64.const 0)))
    i32.const 0))
