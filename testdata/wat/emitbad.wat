;; Emits a record whose value ends behind the batch.
(module
  (import "wattle" "emit" (func $emit (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\01k\05val")
  (func (export "emitbad") (result i32) (call $emit (i32.const 0) (i32.const 6)) i32.const 0))
