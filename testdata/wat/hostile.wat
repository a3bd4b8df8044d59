;; Functions that mean harm, or look for what an earlier call left behind.
(module
  (import "wattle" "output_write" (func $output_write (param i32 i32)))
  (import "wattle" "log" (func $log (param i32 i32 i32)))
  (import "wattle" "error_write" (func $error_write (param i32 i32)))
  (import "wattle" "host_call" (func $host_call (param i32 i32 i32) (result i64)))
  (import "wattle" "input_len" (func $input_len (result i64)))
  (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_renumber" (func $fd_renumber (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_fdstat_set_flags" (func $set_flags (param i32 i32) (result i32)))
  (memory (export "memory") 3)
  (global $a (mut i32) (i32.const 1))
  (global $b (mut i64) (i64.const 2))
  (global $c (mut f32) (f32.const 3))
  (global $d (mut f64) (f64.const 4))
  (data (i32.const 100) "as it was")

  (func (export "spin") (result i32) (loop (br 0)) (i32.const 0))

  (func $down (param i32) (result i32)
    (i32.add (call $down (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))
  (func (export "recurse") (result i32) (call $down (i32.const 0)))

  ;; No loop and no deep stack, but no end either.
  (func $fib (param i32) (result i32)
    (if (result i32) (i32.lt_s (local.get 0) (i32.const 2))
      (then (i32.const 1))
      (else (i32.add (call $fib (i32.sub (local.get 0) (i32.const 1))) (call $fib (i32.sub (local.get 0) (i32.const 2)))))))
  (func (export "fib") (result i32) (drop (call $fib (i32.const 90))) (i32.const 0))

  (func (export "membomb") (result i32)
    (loop
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
      (memory.fill (i32.sub (i32.shl (memory.size) (i32.const 16)) (i32.const 1048576)) (i32.const 1) (i32.const 1048576))
      (br 0))
    (i32.const 0))

  (func (export "fillflood") (result i32)
    (drop (memory.grow (i32.const 1000)))
    (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 60000000)) (br 0))
    (i32.const 0))

  (func (export "outflood") (result i32) (loop (call $output_write (i32.const 0) (i32.const 65536)) (br 0)) (i32.const 0))
  (func (export "logflood") (result i32)
    (local $n i32)
    (loop
      (call $log (i32.const 1) (i32.const 0) (i32.const 1000))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if 0 (i32.lt_u (local.get $n) (i32.const 100000))))
    (i32.const 0))
  (func (export "errorflood") (result i32) (loop (call $error_write (i32.const 0) (i32.const 65536)) (br 0)) (i32.const 0))
  (func (export "callflood") (result i32) (loop (drop (call $host_call (i32.const 1) (i32.const 0) (i32.const 0))) (br 0)) (i32.const 0))

  ;; Answers 2 when it finds anything that an earlier call changed, and then changes it.
  (func (export "keep") (result i32)
    (local $at i32)
    (if (i32.ne (global.get $a) (i32.const 1)) (then (return (i32.const 2))))
    (if (i64.ne (global.get $b) (i64.const 2)) (then (return (i32.const 2))))
    (if (f32.ne (global.get $c) (f32.const 3)) (then (return (i32.const 2))))
    (if (f64.ne (global.get $d) (f64.const 4)) (then (return (i32.const 2))))
    (if (i32.ne (memory.size) (i32.const 3)) (then (return (i32.const 2))))
    (if (i64.ne (i64.load (i32.const 100)) (i64.const 0x7720746920736120 )) (then
      (if (i32.ne (i32.load8_u (i32.const 100)) (i32.const 97)) (then (return (i32.const 2))))))
    (local.set $at (i32.const 200))
    (loop
      (if (i32.load (local.get $at)) (then (return (i32.const 2))))
      (local.set $at (i32.add (local.get $at) (i32.const 509)))
      (br_if 0 (i32.lt_u (local.get $at) (i32.const 196604))))
    (if (call $set_flags (i32.const 1) (i32.const 1)) (then (return (i32.const 2))))
    (if (call $fd_close (i32.const 1)) (then (return (i32.const 2))))
    (global.set $a (i32.const 10))
    (global.set $b (i64.const 20))
    (global.set $c (f32.const 30))
    (global.set $d (f64.const 40))
    (i32.store8 (i32.const 100) (i32.const 65))
    (local.set $at (i32.add (i32.const 200) (i32.mul (i32.const 509) (i32.wrap_i64 (i64.rem_u (call $input_len) (i64.const 380))))))
    (i32.store (local.get $at) (i32.const 77))
    ;; Half of the calls grow the memory and write there, some of them trap.
    (if (i32.and (i32.wrap_i64 (call $input_len)) (i32.const 1)) (then
      (drop (memory.grow (i32.const 2)))
      (i32.store (i32.const 262140) (i32.const 88))))
    (if (i32.eqz (i32.rem_u (i32.wrap_i64 (call $input_len)) (i32.const 7))) (then unreachable))
    (i32.const 0))

  ;; The page that an earlier call grew and wrote to has to be zero again.
  (func (export "grown") (result i32)
    (drop (memory.grow (i32.const 2)))
    (if (i32.load (i32.const 262140)) (then (return (i32.const 2))))
    (i32.store (i32.const 262140) (i32.const 88))
    (i32.const 0))
)
