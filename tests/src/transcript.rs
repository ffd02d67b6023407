//! What happened in many cases, for comparison with another run of the same
//! guest: a digest for each block of cases, and every case of those blocks that
//! the guest's command line asks for.
//!
//! `cargo xtask test` runs a guest with and without Underlay; where a digest
//! differs it runs both again and asks for the cases.

use crate::Report;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Display;

/// What the command line says, as words of the form `key=value`.
pub struct Options(Vec<(String, String)>);

impl Options {
    /// Those of this guest.
    pub fn of_this_guest() -> Self {
        let image = uefi::boot::image_handle();
        let loaded = uefi::boot::open_protocol_exclusive::<uefi::proto::loaded_image::LoadedImage>;
        let line = loaded(image).ok().and_then(|image| {
            let options = image.load_options_as_cstr16().ok()?;
            Some(options.to_string())
        });
        Self::parse(&line.unwrap_or_default())
    }

    fn parse(line: &str) -> Self {
        let words = line.split_whitespace();
        let pairs = words.filter_map(|word| word.split_once('='));
        Self(pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect())
    }

    /// What the command line says for `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        let pair = self.0.iter().find(|(name, _)| name == key)?;
        Some(&pair.1)
    }

    /// How many random cases there shall be, if not `usual`.
    pub fn random(&self, usual: u64) -> u64 {
        let value = self.value("random").and_then(|text| text.parse().ok());
        value.unwrap_or(usual)
    }

    /// Whether this run may take long.
    pub fn is_long(&self) -> bool {
        self.value("random").is_some()
    }

    fn wants(&self, block: &str) -> bool {
        let names = self.value("cases").unwrap_or_default();
        names.split(',').any(|name| name == block)
    }
}

/// The blocks of a guest.
pub struct Transcript {
    block: String,
    digest: u64,
    cases: u64,
    in_full: bool,
}

impl Transcript {
    /// Begins a block. Its name has no blanks and no commas.
    pub fn block(options: &Options, name: impl Display) -> Self {
        let block = name.to_string();
        Self {
            in_full: options.wants(&block),
            block,
            digest: START,
            cases: 0,
        }
    }

    /// Adds the outcome of a case: `words` to the digest, and `text` (of which
    /// the words are all that counts) to the report if that was asked for.
    pub fn case<T: Display>(
        &mut self,
        report: &mut Report,
        name: impl Display,
        words: impl IntoIterator<Item = u64>,
        text: impl FnOnce() -> T,
    ) {
        let own = words.into_iter().fold(START, mix);
        self.digest = mix(self.digest, own);
        if self.in_full {
            let block = &self.block;
            report.say_to_port(format_args!("case {block}#{name} {} {own:x}", text()));
        }
        self.cases += 1;
    }

    /// Names the next case, before it can end the machine.
    pub fn announce<T: Display>(
        &self,
        report: &mut Report,
        name: impl Display,
        text: impl FnOnce() -> T,
    ) {
        if self.in_full {
            let block = &self.block;
            report.say_to_port(format_args!("try {block}#{name} {}", text()));
        }
    }

    /// Ends the block.
    pub fn end(self, report: &mut Report) {
        let (block, digest, cases) = (self.block, self.digest, self.cases);
        report.say_to_port(format_args!("digest {block} {digest:016x} of {cases}"));
    }
}

const START: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(digest: u64, word: u64) -> u64 {
    (digest.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_names_blocks_and_how_many_are_random() {
        let options = Options::parse("random=7 cases=a,b other");
        assert_eq!(options.random(1), 7);
        assert!(options.is_long() && options.wants("b") && !options.wants("c"));
        let none = Options::parse("");
        assert_eq!(none.random(1), 1);
        assert!(!none.is_long() && !none.wants("a"));
    }

    #[test]
    fn a_digest_knows_the_order() {
        assert_ne!(mix(mix(START, 1), 2), mix(mix(START, 2), 1));
    }
}
