;; Imports a function of the host with another type.
(module
  (import "wattle" "input_len" (func (result i32)))
  (func (export "run") (result i32) i32.const 0))
