;; A guest of waPC: "echo" answers the message, "fail" fails, "ask" calls the function "there" of the service "other".
(module
  (import "wapc" "__guest_request" (func $request (param i32 i32)))
  (import "wapc" "__guest_response" (func $response (param i32 i32)))
  (import "wapc" "__guest_error" (func $error (param i32 i32)))
  (import "wapc" "__host_call" (func $host_call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wapc" "__host_response_len" (func $response_len (result i32)))
  (import "wapc" "__host_response" (func $host_response (param i32)))
  (import "wapc" "__host_error_len" (func $error_len (result i32)))
  (import "wapc" "__host_error" (func $host_error (param i32)))
  (import "wapc" "__console_log" (func $log (param i32 i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "defaultotherthereit did not work")
  (func (export "wapc_init") (i32.store8 (i32.const 100) (i32.const 7)))
  (func (export "__guest_call") (param $op i32) (param $msg i32) (result i32)
    (call $request (i32.const 1000) (i32.const 2000))
    (call $log (i32.const 1000) (local.get $op))
    (if (i32.ne (i32.load8_u (i32.const 100)) (i32.const 7)) (then unreachable))
    (if (i32.eq (i32.load8_u (i32.const 1000)) (i32.const 102)) (then ;; f
      (call $error (i32.const 17) (i32.const 15))
      (return (i32.const 0))))
    (if (i32.eq (i32.load8_u (i32.const 1000)) (i32.const 97)) (then ;; a
      (if (call $host_call (i32.const 0) (i32.const 7) (i32.const 7) (i32.const 5) (i32.const 12) (i32.const 5) (i32.const 2000) (local.get $msg))
        (then
          (call $host_response (i32.const 3000))
          (call $response (i32.const 3000) (call $response_len))
          (return (i32.const 1)))
        (else
          (call $host_error (i32.const 3000))
          (call $error (i32.const 3000) (call $error_len))
          (return (i32.const 0))))))
    (call $response (i32.const 2000) (local.get $msg))
    (i32.const 1))
)
