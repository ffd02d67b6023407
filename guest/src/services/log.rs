//! The hypervisor's log.

use super::{read_from, write_to};
use crate::{Error, Underlay, row};

/// Lines of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lines<'a> {
    /// Whole lines, each with a newline.
    pub text: &'a [u8],
    /// The number of the line to go on with.
    pub next: u64,
    /// Lines before these that were overwritten unread.
    pub lost: u64,
}

/// How important a line of the log must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Nothing is logged.
    Off,
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what is worth knowing.
    Info,
    /// And what an engineer asks for.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// All of them, by their numbers.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Underlay {
    /// Reads whole lines from number `line` on, as many as `buffer` has room
    /// for.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::InvalidArgument`] if not even the first one fits.
    pub fn log_read(self, buffer: &mut [u8], line: u64) -> Result<Lines<'_>, Error> {
        let [address, length] = write_to(buffer);
        // SAFETY: the hypervisor writes at most `length` bytes into `buffer`.
        let [done, next, lost] = unsafe { self.ask(row::LOG_READ, [address, length, line])? };
        let done = (done as usize).min(buffer.len());
        Ok(Lines {
            text: &buffer[..done],
            next,
            lost,
        })
    }

    /// Writes a line into the log. Returns how many bytes of it were used.
    ///
    /// # Errors
    ///
    /// [`abi::Errno::TryAgain`] for who does it too often.
    pub fn log_write(self, text: &[u8]) -> Result<usize, Error> {
        // SAFETY: the hypervisor reads `text` and writes nothing of ours.
        unsafe { self.ask(row::LOG_WRITE, read_from(text)) }.map(|[done]| done as usize)
    }

    /// Sets how important a line must be. Returns what it was; a number that
    /// this library has no word for is [`Level::Trace`].
    ///
    /// # Errors
    ///
    /// Whatever the hypervisor answers with.
    pub fn log_level(self, level: Level) -> Result<Level, Error> {
        // SAFETY: `log_level` takes a number and touches no memory of ours.
        let [before] = unsafe { self.ask(row::LOG_LEVEL, [level as u64])? };
        let before = Level::ALL.into_iter().find(|known| *known as u64 == before);
        Ok(before.unwrap_or(Level::Trace))
    }
}
