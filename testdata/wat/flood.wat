;; Writes to the output without end.
(module
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "flood") (result i32)
    (loop $l (call $write (i32.const 0) (i32.const 65536)) (br $l)) unreachable))
