//! How often each kind of exit happened on one CPU.

use core::fmt;
use x86::Exit;
use x86::exit::Kind;

/// Counters by [`Exit::kind`]. Written by the CPU that has them, in `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts([u64; Kind::ALL.len()]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Kind::ALL.len()])
    }
}

impl Counts {
    /// Counts one exit.
    #[inline]
    pub fn add(&mut self, exit: &Exit) {
        if let Some(count) = self.0.get_mut(exit.kind() as usize) {
            *count += 1;
        }
    }

    /// All exits so far.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// `cpuid 12, rdmsr 3`: the kinds that happened.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let happened = self
            .0
            .iter()
            .zip(Kind::ALL)
            .filter(|(count, _)| **count > 0);
        for (number, (count, kind)) in happened.enumerate() {
            let comma = if number > 0 { ", " } else { "" };
            write!(f, "{comma}{} {count}", kind.name())?;
        }
        Ok(())
    }
}
