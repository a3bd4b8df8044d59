;; Logs one line of 11 bytes 10000 times.
(module
  (import "wattle" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "hello there")
  (func (export "logflood") (result i32)
    (local $i i32)
    (loop $l
      (call $log (i32.const 1) (i32.const 0) (i32.const 11))
      (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))
    i32.const 0))
