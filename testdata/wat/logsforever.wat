;; Logs without end.
(module
  (import "wattle" "log" (func $log (param i32 i32 i32)))
  (memory (export "memory") 1)
  (func (export "logsforever") (result i32)
    (loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 1000)) (br $l)) unreachable))
