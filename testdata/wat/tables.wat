;; A guest whose tables change: no snapshot can hold them.
(module
  (table $t 1 funcref)
  (memory (export "memory") 1)
  (func $f)
  (elem declare func $f)
  (func (export "bomb") (result i32)
    (loop
      (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable))
      (br 0))
    (i32.const 0))
  (func (export "keep") (result i32)
    (if (i32.eqz (ref.is_null (table.get $t (i32.const 0)))) (then (return (i32.const 2))))
    (table.set $t (i32.const 0) (ref.func $f))
    (i32.const 0))
)
