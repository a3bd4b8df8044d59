;; One of each kind: echo, big (the input, then zeros up to 128 KiB), map (emits an item of at most 127 bytes, which is
;; a batch of records), reduce (writes its groups as they come).
(module
  (import "wattle" "input_read" (func $read (param i32 i32 i64) (result i32)))
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (import "wattle" "emit" (func $emit (param i32 i32)))
  (memory (export "memory") 3)
  (data (i32.const 131072) "{\"abi\":1,\"functions\":[{\"name\":\"echo\",\"kind\":\"call\"},{\"name\":\"big\",\"kind\":\"call\"},{\"name\":\"map\",\"kind\":\"map\"},{\"name\":\"reduce\",\"kind\":\"reduce\"}]}")
  (func (export "wattle_describe") (result i32) (call $write (i32.const 131072) (i32.const 144)) i32.const 0)
  (func $copy (result i32)
    (local $off i64) (local $n i32)
    (loop $next
      (local.set $n (call $read (i32.const 0) (i32.const 65536) (local.get $off)))
      (if (local.get $n)
        (then
          (call $write (i32.const 0) (local.get $n))
          (local.set $off (i64.add (local.get $off) (i64.extend_i32_u (local.get $n))))
          (br $next))))
    i32.const 0)
  (func (export "echo") (result i32) (call $copy))
  (func (export "reduce") (result i32) (call $copy))
  ;; Reads the whole input to the start of the memory.
  (func $fill (result i32)
    (local $at i32) (local $n i32)
    (loop $next
      (local.set $n (call $read (local.get $at) (i32.sub (i32.const 131072) (local.get $at)) (i64.extend_i32_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (local.get $n)))
      (br_if $next (local.get $n)))
    local.get $at)
  (func (export "big") (result i32)
    (drop (call $fill))
    (call $write (i32.const 0) (i32.const 131072))
    i32.const 0)
  ;; A split of one part without a name or a header has four bytes before its data.
  (func (export "map") (result i32)
    (call $emit (i32.const 4) (i32.sub (call $fill) (i32.const 4)))
    i32.const 0))
