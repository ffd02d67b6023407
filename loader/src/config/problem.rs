//! What can be wrong with a line of the config, as a sentence.

use alloc::string::String;
use core::fmt;

use super::{FILE, KEYS};

/// The most characters of the file that a sentence repeats: a file of garbage
/// must not fill the console.
const QUOTE_MAX: usize = 40;

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It has no `=`.
    NoEquals,
    /// Its key is not one of [`KEYS`].
    UnknownKey,
    /// Its value is not what the key takes.
    BadValue {
        /// What it says.
        value: String,
        /// What the key takes.
        expected: &'static str,
    },
    /// An earlier line has the same key.
    Duplicate {
        /// The number of that line.
        first: usize,
    },
}

/// A line that was not followed. Prints as one line for the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line's number, from 1.
    pub line: usize,
    /// Its key, as written.
    pub key: String,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// What is used instead; nothing if there is no such key.
    pub stands: Option<String>,
}

impl Problem {
    pub(super) fn new(line: usize, key: &str, wrong: Wrong, stands: Option<String>) -> Self {
        Self {
            line,
            key: quote(key),
            wrong,
            stands,
        }
    }
}

/// The start of what the file says, safe to print on a UEFI console.
pub(super) fn quote(text: &str) -> String {
    let printable = |c: char| !c.is_control() && c.len_utf16() == 1;
    let shown = |c| if printable(c) { c } else { '?' };
    let mut quoted: String = text.chars().take(QUOTE_MAX).map(shown).collect();
    if text.chars().nth(QUOTE_MAX).is_some() {
        quoted.push_str("...");
    }
    quoted
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{FILE}:{}: {}: {}; ", self.line, self.key, self.wrong)?;
        match self.stands.as_deref() {
            Some("") => write!(f, "using nothing"),
            Some(value) => write!(f, "using {value}"),
            None => write!(f, "using nothing of this line"),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEquals => write!(f, "there is no `=` on this line"),
            Self::UnknownKey => {
                write!(f, "there is no such key (there are ")?;
                for (index, key) in KEYS.iter().enumerate() {
                    write!(f, "{}{key}", if index == 0 { "" } else { ", " })?;
                }
                write!(f, ")")
            }
            Self::BadValue { value, expected } => write!(f, "`{value}` is not {expected}"),
            Self::Duplicate { first } => write!(f, "line {first} has set this already"),
        }
    }
}
