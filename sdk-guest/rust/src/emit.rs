use crate::abi;
use crate::input::BLOCK;
use crate::sums::Sums;

/// Passes records on. In the next stage all values of one key are seen together. Records travel in batches.
pub struct Emit {
    batch: Vec<u8>,
    sums: Sums,
    pub(crate) emitted: bool,
}

impl Emit {
    pub(crate) fn new() -> Emit {
        Emit { batch: Vec::new(), sums: Sums::new(), emitted: false }
    }

    /// Emits a record.
    pub fn record(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.put(key.as_ref(), value.as_ref());
    }

    /// Emits a number, written as JSON has it: the other SDKs read it, too.
    pub fn int(&mut self, key: impl AsRef<[u8]>, n: i64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        let mut u = n.unsigned_abs();
        loop {
            at -= 1;
            digits[at] = b'0' + (u % 10) as u8;
            u /= 10;
            if u == 0 {
                break;
            }
        }
        if n < 0 {
            at -= 1;
            digits[at] = b'-';
        }
        self.put(key.as_ref(), &digits[at..]);
    }

    /// Adds n to the sum of key. Sums are emitted at the end of the call, or before where there are many: a key may be emitted
    /// more than once, for a combiner and a reducer that add up. It is far faster than emitting each n by itself.
    #[inline]
    pub fn add(&mut self, key: impl AsRef<[u8]>, n: i64) {
        if self.sums.full() {
            self.flush_sums();
        }
        self.sums.add(key.as_ref(), n);
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        if self.batch.len() + key.len() + value.len() + 10 > self.batch.capacity() {
            self.flush_batch();
            self.batch.reserve((key.len() + value.len() + 10).max(2 * BLOCK));
        }
        put_counted(&mut self.batch, key);
        put_counted(&mut self.batch, value);
    }

    fn flush_batch(&mut self) {
        if !self.batch.is_empty() {
            self.emitted = true;
            abi::emit(&self.batch);
            self.batch.clear();
        }
    }

    fn flush_sums(&mut self) {
        let mut sums = std::mem::replace(&mut self.sums, Sums::new());
        sums.each(|key, n| self.int(key, n));
        sums.clear();
        self.sums = sums;
    }

    /// Hands everything to the host.
    pub(crate) fn finish(&mut self) {
        self.flush_sums();
        self.flush_batch();
    }
}

pub(crate) fn put_length(to: &mut Vec<u8>, mut n: usize) {
    while n >= 0x80 {
        to.push(n as u8 | 0x80);
        n >>= 7;
    }
    to.push(n as u8);
}

pub(crate) fn put_counted(to: &mut Vec<u8>, b: &[u8]) {
    put_length(to, b.len());
    to.extend_from_slice(b);
}
