;; Writes its input to the output, in pieces of 64 KiB.
(module
  (import "wattle" "input_read" (func $read (param i32 i32 i64) (result i32)))
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 2)
  (func (export "echo") (result i32)
    (local $off i64) (local $n i32)
    (loop $next
      (local.set $n (call $read (i32.const 65536) (i32.const 65536) (local.get $off)))
      (if (local.get $n)
        (then
          (call $write (i32.const 65536) (local.get $n))
          (local.set $off (i64.add (local.get $off) (i64.extend_i32_u (local.get $n))))
          (br $next))))
    i32.const 0))
