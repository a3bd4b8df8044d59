//! Echo and the word count, as plugins/echo and plugins/wordcount have them in Go.

use wattle::{parse_int, Call, Emit, Error, Groups, Parts, Result};

fn echo(_: &mut Call, input: Vec<u8>) -> Result<Vec<u8>> {
    Ok(input)
}

/// Greets with the setting greeting, and counts how often it did on this node.
fn visit(call: &mut Call, _: Vec<u8>) -> Result<String> {
    loop {
        let (before, version) = call.cache_get("visits").map_err(|e| Error::permanent(e.reason()))?;
        let n = if version == 0 { 1 } else { parse_int(&before)? + 1 };
        if call.cache_swap("visits", n.to_string().as_bytes(), 0, version)?.1 {
            return Ok(format!("{} {}", call.config("greeting").unwrap_or_default(), n));
        }
    }
}

/// Answers how many of the 8 bytes of x, from the lowest on, are ASCII letters: byte for byte would take longer.
fn letters(x: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let small = (x | (0x20 * ONES)) & !HIGH; // additions then stay within their bytes
    let is = (small + (0x80 - u64::from(b'a')) * ONES) & !(small + (0x7f - u64::from(b'z')) * ONES) & !x & HIGH;
    (is ^ HIGH).trailing_zeros() as usize / 8
}

/// A word is a run of ASCII letters as long as can be, in lower case; it may begin in one block and end in the next.
fn words(_: &mut Call, parts: &mut Parts, emit: &mut Emit) -> Result<()> {
    let mut word = Vec::new();
    while let Some(mut part) = parts.next()? {
        while let Some(mut block) = part.block()? {
            while !block.is_empty() {
                let x = match block.get(..8) {
                    Some(eight) => u64::from_le_bytes(eight.try_into()?),
                    None => block.iter().rev().fold(0, |x, c| x << 8 | u64::from(*c)),
                };
                let n = letters(x);
                if n == 0 && word.is_empty() {
                    block = &block[1..];
                    continue;
                }
                word.extend_from_slice(&(x | 0x2020_2020_2020_2020).to_le_bytes());
                word.truncate(word.len() - 8 + n);
                block = &block[n..];
                if n < 8 && !block.is_empty() {
                    emit.add(&word, 1);
                    word.clear();
                    block = &block[1..];
                }
            }
        }
        if !word.is_empty() {
            emit.add(&word, 1);
            word.clear();
        }
    }
    Ok(())
}

fn total(_: &mut Call, words: &mut Groups, emit: &mut Emit) -> Result<()> {
    while let Some(mut word) = words.next()? {
        let n = word.sum()?;
        emit.int(word.key(), n);
    }
    Ok(())
}

wattle::functions! {
    call "echo" => echo, "answers the bytes it gets";
    call "visit" => visit, "greets with the setting greeting, and counts how often it did on this node";
    map "map" => words, "emits each word with its count";
    combine "sum" => total, "adds up the counts of a word";
    reduce "reduce" => total, "answers how often each word occurs";
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattle::testing;

    #[test]
    fn echoes() {
        assert_eq!(testing::call(echo, "hello").unwrap(), b"hello");
    }

    #[test]
    fn greets_and_counts() {
        assert_eq!(testing::call(visit, "").unwrap_err().message, "capability_denied");
        testing::grant_cache();
        testing::grant(|_| Ok(b"Hello".to_vec()));
        assert_eq!(testing::call(visit, "").unwrap(), b"Hello 1");
        assert_eq!(testing::call(visit, "").unwrap(), b"Hello 2");
    }

    #[test]
    fn counts() {
        let mapped = testing::map(words, &["The lake, the LAKE!\nÄpfel2go", "the"]).unwrap();
        let got = testing::reduce(total, &mapped).unwrap();
        let want = [("go", "1"), ("lake", "2"), ("pfel", "1"), ("the", "3")];
        assert_eq!(got, want.map(|(k, v)| (k.to_string(), v.to_string())));
    }

    /// Words that lie across the blocks a part is read in count once.
    #[test]
    fn counts_long_parts() {
        for shift in 0..8 {
            let text = "x".repeat(shift) + &" Lake".repeat(100_000);
            let got = testing::map(words, &[&text]).unwrap();
            assert!(got.contains(&("lake".to_string(), "100000".to_string())), "{:?}", got);
        }
        let long = "a".repeat(200_000);
        assert_eq!(testing::map(words, &[&long]).unwrap(), [(long, "1".to_string())]);
    }

    #[test]
    fn refuses_what_is_no_count() {
        let failure = testing::reduce(total, &[("the", "x")]).unwrap_err();
        assert!(failure.permanent && failure.message.contains("whole number"), "{:?}", failure);
    }
}
