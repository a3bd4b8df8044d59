//! Sums by key: an open-addressing table, since emitting every word of a text costs far more than adding it up here.

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const FIRST_BITS: u32 = 12;
const MOST_BITS: u32 = 17;
const MOST_KEY_BYTES: usize = 4 << 20;

#[derive(Clone, Copy, Default)]
struct Sum {
    print: u64, // tells keys of one length up to 8 apart; longer ones are compared in keys
    n: i64,
    len_plus_1: u32, // 0 where nothing is
    at: u32,
}

pub(crate) struct Sums {
    table: Vec<Sum>,
    bits: u32,
    used: usize,
    keys: Vec<u8>,
}

impl Sums {
    pub(crate) fn new() -> Sums {
        Sums { table: Vec::new(), bits: 0, used: 0, keys: Vec::new() }
    }

    /// Tells whether there is enough to be emitted before more is added.
    #[inline]
    pub(crate) fn full(&self) -> bool {
        self.used >= 1 << (MOST_BITS - 1) || self.keys.len() > MOST_KEY_BYTES
    }

    #[inline]
    pub(crate) fn add(&mut self, key: &[u8], n: i64) {
        if self.used * 2 >= self.table.len() {
            self.grow();
        }
        let print = print_of(key);
        let mask = self.table.len() - 1;
        let mut at = self.slot(print, key.len());
        loop {
            let s = &mut self.table[at];
            if s.print == print && s.len_plus_1 as usize == key.len() + 1 {
                let from = s.at as usize;
                if key.len() <= 8 || self.keys[from..from + key.len()] == *key {
                    s.n = s.n.wrapping_add(n);
                    return;
                }
            }
            if s.len_plus_1 == 0 {
                *s = Sum { print, n, len_plus_1: key.len() as u32 + 1, at: self.keys.len() as u32 };
                self.keys.extend_from_slice(key);
                self.used += 1;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    pub(crate) fn each(&self, mut f: impl FnMut(&[u8], i64)) {
        for s in self.table.iter().filter(|s| s.len_plus_1 > 0) {
            let from = s.at as usize;
            f(&self.keys[from..from + s.len_plus_1 as usize - 1], s.n);
        }
    }

    pub(crate) fn clear(&mut self) {
        if self.used > 0 {
            self.table.fill(Sum::default());
        }
        self.used = 0;
        self.keys.clear();
    }

    #[inline]
    fn slot(&self, print: u64, len: usize) -> usize {
        (print.wrapping_add(len as u64).wrapping_mul(MIX) >> (64 - self.bits)) as usize
    }

    #[cold]
    fn grow(&mut self) {
        self.bits = if self.bits == 0 { FIRST_BITS } else { self.bits + 1 };
        let old = std::mem::replace(&mut self.table, vec![Sum::default(); 1 << self.bits]);
        let mask = self.table.len() - 1;
        for s in old.into_iter().filter(|s| s.len_plus_1 > 0) {
            let mut at = self.slot(s.print, s.len_plus_1 as usize - 1);
            while self.table[at].len_plus_1 > 0 {
                at = (at + 1) & mask;
            }
            self.table[at] = s;
        }
    }
}

#[inline]
fn load8(b: &[u8]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[inline]
fn load4(b: &[u8]) -> u64 {
    u32::from_le_bytes([b[0], b[1], b[2], b[3]]).into()
}

#[inline]
fn print_of(key: &[u8]) -> u64 {
    let n = key.len();
    if n > 8 {
        let mut h = load8(key).wrapping_mul(MIX);
        let mut i = 8;
        while i + 8 < n {
            h = (h ^ h >> 29 ^ load8(&key[i..i + 8])).wrapping_mul(MIX);
            i += 8;
        }
        (h ^ h >> 29 ^ load8(&key[n - 8..])).wrapping_mul(MIX)
    } else if n >= 4 {
        load4(key) | load4(&key[n - 4..]) << 32
    } else if n > 0 {
        u64::from(key[0]) | u64::from(key[n / 2]) << 8 | u64::from(key[n - 1]) << 16
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_keys_have_prints_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        let letters = [0u8, b'a', b'b', 255];
        for len in 0..=8u32 {
            for i in 0..letters.len().pow(len) {
                let key: Vec<u8> = (0..len).map(|d| letters[i / letters.len().pow(d) % letters.len()]).collect();
                assert!(seen.insert((key.len(), print_of(&key))), "{:?}", key);
            }
        }
    }

    #[test]
    fn every_key_is_counted() {
        let mut sums = Sums::new();
        let mut want = std::collections::HashMap::new();
        for i in 0..100_000u64 {
            let key = format!("{:.*}", (i % 23) as usize, (i % 9_973).pow(2).to_string().repeat(4));
            sums.add(key.as_bytes(), i as i64);
            *want.entry(key).or_insert(0) += i as i64;
        }
        let mut got = std::collections::HashMap::new();
        sums.each(|key, n| assert!(got.insert(String::from_utf8(key.to_vec()).unwrap(), n).is_none()));
        assert_eq!(got, want);
    }
}
