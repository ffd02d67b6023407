//! How a VM ends.

use std::fmt;

/// Why it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It switched itself off.
    Off,
    /// It wants to be reset.
    Reset,
    /// The person at the terminal wants it.
    Left,
    /// This signal wants it.
    Signal(i32),
    /// It cannot go on.
    Crashed(String),
    /// This program cannot go on with it.
    Failed(String),
}

impl End {
    /// The program's exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Off | Self::Left => 0,
            Self::Failed(_) => 1,
            Self::Reset => 3,
            Self::Crashed(_) => 4,
            Self::Signal(number) => 128 + *number as u8,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("switched off"),
            Self::Reset => f.write_str("wants to be reset, which ends it"),
            Self::Left => f.write_str("left"),
            Self::Signal(number) => write!(f, "ended by signal {number}"),
            Self::Crashed(why) => write!(f, "cannot go on: {why}"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
