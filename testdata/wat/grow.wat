;; Takes one page after the other and writes to each; traps when there are no more.
(module
  (memory (export "memory") 1)
  (func (export "grow") (result i32)
    (local $p i32)
    (loop $l
      (local.set $p (memory.grow (i32.const 1)))
      (if (i32.eq (local.get $p) (i32.const -1)) (then unreachable))
      (i32.store (i32.shl (local.get $p) (i32.const 16)) (i32.const 1))
      (br $l))
    unreachable)
  ;; Asks for more than there is, is content with a no, and ends well.
  (func (export "modest") (result i32)
    (drop (memory.grow (i32.const 65000)))
    i32.const 0)
  ;; Takes 16 MiB and ends well.
  (func (export "some") (result i32)
    (i32.eq (memory.grow (i32.const 256)) (i32.const -1))))
