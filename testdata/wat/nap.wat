;; Sleeps as many milliseconds as its input says in decimal, then writes its input to the output.
(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wattle" "input_read" (func $read (param i32 i32 i64) (result i32)))
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (func (export "nap") (result i32)
    (local $n i32) (local $i i32) (local $ms i64) (local $d i32)
    (local.set $n (call $read (i32.const 1024) (i32.const 1024) (i64.const 0)))
    (block $end
      (loop $next
        (br_if $end (i32.ge_u (local.get $i) (local.get $n)))
        (local.set $d (i32.sub (i32.load8_u offset=1024 (local.get $i)) (i32.const 48)))
        ;; what follows the digits is a comment, so that inputs can differ
        (br_if $end (i32.gt_u (local.get $d) (i32.const 9)))
        (local.set $ms (i64.add (i64.mul (local.get $ms) (i64.const 10)) (i64.extend_i32_u (local.get $d))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $next)))
    ;; one subscription at 0: userdata 8, tag 0 (clock) at 8, clock id 1 at 16, timeout at 24
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.mul (local.get $ms) (i64.const 1000000)))
    (drop (call $poll (i32.const 0) (i32.const 256) (i32.const 1) (i32.const 512)))
    (call $write (i32.const 1024) (local.get $n))
    i32.const 0))
