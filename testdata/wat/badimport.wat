;; Imports what no host offers.
(module
  (import "env" "launch_rocket" (func))
  (func (export "run") (result i32) i32.const 0))
