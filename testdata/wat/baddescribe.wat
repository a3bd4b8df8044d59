;; Describes a function that is not there.
(module
  (import "wattle" "output_write" (func $write (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "{\"abi\":1,\"functions\":[{\"name\":\"ghost\",\"kind\":\"map\"}]}")
  (func (export "wattle_describe") (result i32) (call $write (i32.const 0) (i32.const 53)) i32.const 0)
  (func (export "run") (result i32) i32.const 0))
