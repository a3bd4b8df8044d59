use crate::call::{Error, Result};
use crate::input::{cut, Input};

/// Keys with their values, in ascending order of the keys' bytes, each key once.
pub struct Groups {
    input: Input,
    key: Vec<u8>,
    open: bool, // whether the key may have values that are not read yet
}

impl Groups {
    pub(crate) fn new() -> Groups {
        Groups { input: Input::new(), key: Vec::new(), open: false }
    }

    /// Answers the next key. Values that are left of the one before are skipped.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Group<'_>>> {
        while let Some(n) = self.size()? {
            self.input.skip(n);
        }
        let n = match self.input.length()? {
            None => return Ok(None),
            Some(n) => n,
        };
        self.key.clear();
        self.key.extend_from_slice(self.input.take(n)?);
        self.open = true;
        Ok(Some(Group { of: self }))
    }

    /// Reads the size of the next value of the key.
    fn size(&mut self) -> Result<Option<u64>> {
        if !self.open {
            return Ok(None);
        }
        let n = self.input.length()?.ok_or_else(cut)?;
        self.open = n > 0;
        Ok(n.checked_sub(1))
    }
}

/// One key.
pub struct Group<'a> {
    of: &'a mut Groups,
}

impl Group<'_> {
    pub fn key(&self) -> &[u8] {
        &self.of.key
    }

    /// Answers the next value of the key; None after the last.
    pub fn value(&mut self) -> Result<Option<&[u8]>> {
        match self.of.size()? {
            None => Ok(None),
            Some(n) => Ok(Some(self.of.input.take(n)?)),
        }
    }

    /// Adds up the values that are left, numbers as [`Emit::int`](crate::Emit::int) writes them.
    pub fn sum(&mut self) -> Result<i64> {
        let mut sum = 0i64;
        while let Some(value) = self.value()? {
            sum = sum.wrapping_add(parse_int(value)?);
        }
        Ok(sum)
    }
}

/// Reads a whole number as JSON has it. What is none fails for good.
pub fn parse_int(b: &[u8]) -> Result<i64> {
    let digits = b.strip_prefix(b"-").unwrap_or(b);
    let well = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit) && (digits[0] != b'0' || digits.len() == 1);
    let parsed = if well { std::str::from_utf8(b).ok().and_then(|s| s.parse().ok()) } else { None };
    parsed.ok_or_else(|| Error::permanent(format_args!("{:?} is not the whole number that the function takes", String::from_utf8_lossy(b))))
}
