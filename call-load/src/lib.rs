//! What the programs that call under load and as an attacker share.

pub mod mapping;
pub mod owner;
pub mod pattern;
pub mod processes;

/// Why something failed, as a sentence.
pub type Failed = String;

/// An error that says `why` unless `good`.
///
/// # Errors
///
/// The sentence.
pub fn ensure(good: bool, why: impl FnOnce() -> Failed) -> Result<(), Failed> {
    if good { Ok(()) } else { Err(why()) }
}
