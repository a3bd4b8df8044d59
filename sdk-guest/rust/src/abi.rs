//! The host's functions; docs/abi.md of Wattle says what they do. Outside of WebAssembly a stand-in takes their place.

#[cfg(target_arch = "wasm32")]
mod wasm {
    mod host {
        #[link(wasm_import_module = "wattle")]
        extern "C" {
            pub fn input_len() -> i64;
            pub fn input_read(ptr: *mut u8, len: usize, off: i64) -> usize;
            pub fn output_write(ptr: *const u8, len: usize);
            pub fn error_write(ptr: *const u8, len: usize);
            pub fn log(level: i32, ptr: *const u8, len: usize);
            pub fn emit(ptr: *const u8, len: usize);
            pub fn host_call(op: i32, ptr: *mut u8, len: usize) -> i64;
        }
    }

    // The pointers and lengths are those of slices, which the host reads or fills before it returns.

    pub fn input_len() -> i64 {
        unsafe { host::input_len() }
    }

    pub fn input_read(to: &mut [u8], off: u64) -> usize {
        unsafe { host::input_read(to.as_mut_ptr(), to.len(), off as i64) }
    }

    pub fn output_write(b: &[u8]) {
        unsafe { host::output_write(b.as_ptr(), b.len()) }
    }

    pub fn error_write(b: &[u8]) {
        unsafe { host::error_write(b.as_ptr(), b.len()) }
    }

    pub fn log(level: i32, line: &[u8]) {
        unsafe { host::log(level, line.as_ptr(), line.len()) }
    }

    pub fn emit(batch: &[u8]) {
        unsafe { host::emit(batch.as_ptr(), batch.len()) }
    }

    /// Makes a request, and answers the reply and its code: the reply's length, -1 where there is none, or -2 and less for an error.
    pub fn ask(op: i32, request: &[u8]) -> (Vec<u8>, i64) {
        let code = unsafe { host::host_call(op, request.as_ptr() as *mut u8, request.len()) };
        let len = if code >= 0 { code } else { -2 - code.min(-2) };
        let mut reply = vec![0; len as usize];
        if len > 0 {
            unsafe { host::host_call(0, reply.as_mut_ptr(), reply.len()) };
        }
        (reply, code)
    }
}

#[cfg(target_arch = "wasm32")]
pub(crate) use wasm::*;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use crate::testing::host::*;
