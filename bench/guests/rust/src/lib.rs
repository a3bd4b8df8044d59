//! What is called with a clean state: see ../../c/functions.c.

mod compute;

use wattle::{Call, Result};

fn noop(_: &mut Call, _: Vec<u8>) -> Result<Vec<u8>> {
    Ok(Vec::new())
}

fn echo(_: &mut Call, input: Vec<u8>) -> Result<Vec<u8>> {
    Ok(input)
}

fn hash(_: &mut Call, input: Vec<u8>) -> Result<Vec<u8>> {
    Ok(compute::sha(input.len() as i32).to_le_bytes().to_vec())
}

wattle::functions! {
    call "noop" => noop, "does nothing";
    call "echo" => echo, "answers the bytes it gets";
    call "hash" => hash, "hashes as many bytes as it gets";
}
