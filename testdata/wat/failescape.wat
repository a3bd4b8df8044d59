;; Fails for good with a message that would steer a terminal.
(module
  (import "wattle" "error_write" (func $error (param i32 i32)))
  (memory (export "memory") 1)
  (data (i32.const 0) "\1b[31mred\0d\07\nand a second line")
  (func (export "failescape") (result i32) (call $error (i32.const 0) (i32.const 28)) i32.const 2))
