;; One dispatcher and a description; the function writes its own name.
(module
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (import "wattle" "host_call" (func $host (param i32 i32 i32) (result i64)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "{\"abi\":1,\"functions\":[{\"name\":\"count\",\"kind\":\"map\",\"description\":\"counts\"},{\"name\":\"sum\",\"kind\":\"combine\"},{\"name\":\"plain\"}]}")
  (func (export "wattle_describe") (result i32) (call $write (i32.const 1024) (i32.const 125)) i32.const 0)
  (func (export "wattle_call") (result i32)
    (drop (call $host (i32.const 2) (i32.const 0) (i32.const 0)))
    (call $write (i32.const 0) (i32.wrap_i64 (call $host (i32.const 0) (i32.const 0) (i32.const 1000))))
    i32.const 0))
