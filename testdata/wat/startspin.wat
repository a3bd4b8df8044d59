;; Its start section never ends.
(module
  (func $s (loop $l (br $l)))
  (start $s)
  (func (export "run") (result i32) i32.const 0))
