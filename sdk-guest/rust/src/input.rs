use crate::abi;
use crate::call::{Call, Error, Result};
use crate::json::Json;
use std::io;

pub(crate) const BLOCK: usize = 64 << 10;

/// The input, read in blocks. A call function that takes it reads as much as it wants.
pub struct Input {
    buf: Vec<u8>, // allocated on first use
    r: usize,     // buf[r..w] is read from the host and not used yet
    w: usize,
    off: u64, // of buf[w] in the input
}

impl Input {
    pub(crate) fn new() -> Input {
        Input { buf: Vec::new(), r: 0, w: 0, off: 0 }
    }

    /// Answers the rest of the input.
    pub fn all(&mut self) -> Vec<u8> {
        let mut b = self.buf[self.r..self.w].to_vec();
        self.r = self.w;
        let len = abi::input_len();
        // One byte more than the length makes the last read see the end without growing.
        let mut room = if len < 0 { BLOCK } else { (len as u64).saturating_sub(self.off) as usize + 1 };
        loop {
            let at = b.len();
            b.resize(at + room, 0);
            let got = abi::input_read(&mut b[at..], self.off);
            self.off += got as u64;
            b.truncate(at + got);
            if got == 0 {
                return b;
            }
            room = if got < room { room - got } else { b.len() };
        }
    }

    /// Has at least n bytes in the buffer; false where the input ends before.
    pub(crate) fn fill(&mut self, n: usize) -> bool {
        while self.w - self.r < n {
            if self.buf.len() - self.r < n || self.w == self.buf.len() {
                self.buf.copy_within(self.r..self.w, 0);
                self.w -= self.r;
                self.r = 0;
                if self.buf.len() < n || self.w == self.buf.len() {
                    self.buf.resize((n + n / 2).max(BLOCK), 0);
                }
            }
            let got = abi::input_read(&mut self.buf[self.w..], self.off);
            if got == 0 {
                return false;
            }
            self.w += got;
            self.off += got as u64;
        }
        true
    }

    /// What is in the buffer and not used yet.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buf[self.r..self.w]
    }

    /// Answers the next n bytes, which are in the buffer, and uses them.
    pub(crate) fn advance(&mut self, n: usize) -> &[u8] {
        self.r += n;
        &self.buf[self.r - n..self.r]
    }

    /// Reads a length; None at the end of the input.
    pub(crate) fn length(&mut self) -> Result<Option<u64>> {
        let mut v = 0;
        for i in 0..10 {
            if !self.fill(1) {
                return if i == 0 { Ok(None) } else { Err(cut()) };
            }
            let c = self.advance(1)[0];
            v |= u64::from(c & 0x7f) << (7 * i);
            if c < 0x80 {
                return Ok(Some(v));
            }
        }
        Err(Error::new("the input has a malformed length"))
    }

    /// Reads n bytes, valid until the next read.
    pub(crate) fn take(&mut self, n: u64) -> Result<&[u8]> {
        if n > isize::MAX as u64 || !self.fill(n as usize) {
            return Err(cut());
        }
        Ok(self.advance(n as usize))
    }

    /// Reads a length and as many bytes.
    pub(crate) fn counted(&mut self) -> Result<Vec<u8>> {
        let n = self.length()?.ok_or_else(cut)?;
        Ok(self.take(n)?.to_vec())
    }

    /// Passes over n bytes without asking the host for them.
    pub(crate) fn skip(&mut self, n: u64) {
        let have = n.min((self.w - self.r) as u64);
        self.r += have as usize;
        self.off += n - have;
    }
}

/// Only a fault of the host cuts its input.
pub(crate) fn cut() -> Error {
    Error::new("the input ends in the middle of a record")
}

impl io::Read for Input {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.r == self.w {
            let got = abi::input_read(to, self.off);
            self.off += got as u64;
            return Ok(got);
        }
        let n = to.len().min(self.w - self.r);
        to[..n].copy_from_slice(self.advance(n));
        Ok(n)
    }
}

/// What a call function may take: its input as bytes, text or JSON, a stream of it, or the parts of a split.
pub trait FromInput: Sized {
    #[doc(hidden)]
    fn from_input(call: &mut Call) -> Result<Self>;
}

impl FromInput for Input {
    fn from_input(_: &mut Call) -> Result<Input> {
        Ok(Input::new())
    }
}

impl FromInput for Vec<u8> {
    fn from_input(_: &mut Call) -> Result<Vec<u8>> {
        Ok(Input::new().all())
    }
}

impl FromInput for String {
    fn from_input(call: &mut Call) -> Result<String> {
        String::from_utf8(Vec::from_input(call)?).map_err(|e| Error::permanent(format_args!("the input is no UTF-8: {}", e)))
    }
}

/// No input at all is null.
impl FromInput for Json {
    fn from_input(call: &mut Call) -> Result<Json> {
        let b = Vec::from_input(call)?;
        if b.is_empty() {
            return Ok(Json::Null);
        }
        Json::parse(&b).map_err(|e| Error::permanent(format_args!("the input is no JSON: {}", e)))
    }
}
