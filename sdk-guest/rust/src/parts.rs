use crate::call::{Call, Result};
use crate::input::{cut, FromInput, Input};

/// The parts of a split: pieces of files.
pub struct Parts {
    input: Input,
    left: u64, // bytes of the part's data that are not read yet
}

impl Parts {
    pub(crate) fn new() -> Parts {
        Parts { input: Input::new(), left: 0 }
    }

    /// Answers the next part. What is left of the one before is skipped.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Part<'_>>> {
        self.input.skip(self.left);
        self.left = 0;
        let n = match self.input.length()? {
            None => return Ok(None),
            Some(n) => n,
        };
        let name = self.input.take(n)?.to_vec();
        let offset = self.input.length()?.ok_or_else(cut)?;
        let header = self.input.counted()?;
        self.left = self.input.length()?.ok_or_else(cut)?;
        Ok(Some(Part { name, offset, header, of: self }))
    }
}

impl FromInput for Parts {
    fn from_input(call: &mut Call) -> Result<Parts> {
        call.wants("split")?;
        Ok(Parts::new())
    }
}

/// A piece of a file, cut where a line ends.
pub struct Part<'a> {
    /// The file's name.
    pub name: Vec<u8>,
    /// Where the part begins in its file, in bytes.
    pub offset: u64,
    /// The first line of the file, without its end, where the job says that files have one.
    pub header: Vec<u8>,
    of: &'a mut Parts,
}

impl Part<'_> {
    /// How many bytes are left to read.
    pub fn left(&self) -> u64 {
        self.of.left
    }

    /// Answers the next piece of the part, cut anywhere; None at the end. It is the fastest way to read a part.
    pub fn block(&mut self) -> Result<Option<&[u8]>> {
        if self.of.left == 0 {
            return Ok(None);
        }
        if !self.of.input.fill(1) {
            return Err(cut());
        }
        let n = self.have();
        Ok(Some(self.read(n, n)))
    }

    /// Answers the next line without its end ("\n" or "\r\n"); None at the end.
    pub fn line(&mut self) -> Result<Option<&[u8]>> {
        let mut seen = 0;
        while self.of.left > 0 {
            let have = self.have();
            let found = self.of.input.buffered()[seen..have].iter().position(|&c| c == b'\n');
            match found {
                Some(at) => {
                    let line = self.read(seen + at, seen + at + 1);
                    return Ok(Some(line.strip_suffix(b"\r").unwrap_or(line)));
                }
                None if have as u64 == self.of.left => return Ok(Some(self.read(have, have))),
                None => seen = have,
            }
            if !self.of.input.fill(have + 1) {
                return Err(cut());
            }
        }
        Ok(None)
    }

    /// How much of the part is in the buffer.
    fn have(&self) -> usize {
        (self.of.input.buffered().len() as u64).min(self.of.left) as usize
    }

    /// Answers n bytes and uses so many.
    fn read(&mut self, n: usize, used: usize) -> &[u8] {
        self.of.left -= used as u64;
        &self.of.input.advance(used)[..n]
    }
}
