//! Write Wattle functions in Rust: the crate has no dependencies, and needs rustc 1.63 or newer with the target
//! wasm32-unknown-unknown.
//!
//! ```
//! use wattle::{Call, Emit, Groups, Parts, Result};
//!
//! fn shout(_: &mut Call, text: String) -> Result<String> {
//!     Ok(text.to_uppercase())
//! }
//!
//! fn lengths(_: &mut Call, parts: &mut Parts, emit: &mut Emit) -> Result<()> {
//!     while let Some(mut part) = parts.next()? {
//!         while let Some(line) = part.line()? {
//!             emit.add(line.len().to_string(), 1);
//!         }
//!     }
//!     Ok(())
//! }
//!
//! fn total(_: &mut Call, groups: &mut Groups, emit: &mut Emit) -> Result<()> {
//!     while let Some(mut group) = groups.next()? {
//!         let sum = group.sum()?;
//!         emit.int(group.key(), sum);
//!     }
//!     Ok(())
//! }
//!
//! wattle::functions! {
//!     call "shout" => shout, "answers in capital letters";
//!     map "lengths" => lengths, "emits how many lines there are of each length";
//!     combine "sum" => total, "adds up";
//!     reduce "total" => total, "answers the sum of each length";
//! }
//! ```
//!
//! A function reaches no network and no files. Each call runs in an instance of its own: what a function leaves in statics is
//! gone at the next call. Outside of WebAssembly functions do nothing by themselves; [`testing`] runs them in plain tests.

mod abi;
mod call;
mod capabilities;
mod emit;
mod groups;
mod input;
mod json;
mod parts;
mod register;
mod sums;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

pub use call::{Call, Error, Level, Output, Result};
pub use capabilities::{Request, Response};
pub use emit::Emit;
pub use groups::{parse_int, Group, Groups};
pub use input::{FromInput, Input};
pub use json::Json;
pub use parts::{Part, Parts};

#[doc(hidden)]
pub use register::{describe, prepare, run, Function};
