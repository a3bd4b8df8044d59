;; Fails for good.
(module
  (import "wattle" "error_write" (func $error (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "no such lake")
  (func (export "failperm") (result i32) (call $error (i32.const 0) (i32.const 12)) i32.const 2))
