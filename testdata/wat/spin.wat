;; Never ends.
(module
  (func (export "spin") (result i32) (loop $l (br $l)) unreachable))
