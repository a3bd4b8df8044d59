;; Makes its table longer without end; traps when it cannot.
(module
  (table $t 1 externref)
  (func (export "growtable") (result i32)
    (loop $l
      (if (i32.eq (table.grow $t (ref.null extern) (i32.const 1000000)) (i32.const -1)) (then unreachable))
      (br $l))
    unreachable))
