;; One function that can be called, and exports that cannot.
(module
  (memory (export "memory") 1)
  (func (export "good") (result i32) i32.const 0)
  (func (export "a b") (result i32) i32.const 0)
  (func (export "a/b") (result i32) i32.const 0)
  (func (export "_own") (result i32) i32.const 0)
  (func (export "malloc") (param i32) (result i32) i32.const 0))
