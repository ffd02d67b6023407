//! What a controller answers to an exit. Only `run` acts on it.

use x86::exit::EntryFailure;
use x86::{Exception, Exit};

/// A controller's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Not mine: ask the next controller.
    Pass,
    /// Enter the guest again where it is.
    Resume,
    /// The instruction is done: step over it.
    Done,
    /// The instruction is done and this many bytes long: step over it. For
    /// exits at which the hardware does not say how long it is.
    Emulated {
        /// Bytes of the instruction.
        length: u8,
    },
    /// One round of a repeated string instruction is done, and more are to
    /// come: the guest runs it again, with what it has in its registers.
    Again,
    /// The guest is where it is to go on, and what was being delivered is.
    Moved,
    /// Raise this exception at the instruction.
    Fault(Exception),
    /// A child waits for its program: nothing has changed.
    HandUp,
    /// The guest cannot go on, for the reason that its exit is.
    Stop,
}

/// As small as this it is returned in registers.
const _: () = assert!(size_of::<Outcome>() <= 16);

impl Outcome {
    const NAMES: [&'static str; 9] = [
        "pass", "resume", "done", "again", "moved", "fault", "stop", "emulated", "hand-up",
    ];

    /// Its word as a number, for traces.
    pub const fn number(&self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Resume => 1,
            Self::Done => 2,
            Self::Again => 3,
            Self::Moved => 4,
            Self::Fault(_) => 5,
            Self::Stop => 6,
            Self::Emulated { .. } => 7,
            Self::HandUp => 8,
        }
    }

    /// The word with this number.
    pub fn name(number: u8) -> &'static str {
        let name = Self::NAMES.get(usize::from(number));
        name.copied().unwrap_or("unknown")
    }
}

/// Why a guest cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It shut down, as by a triple fault: the machine is to be reset.
    Reset,
    /// It could not be entered.
    EntryFailed(EntryFailure),
    /// A child needs its program.
    HandUp,
    /// No controller knows this exit.
    Unhandled(Exit),
}

impl Stop {
    /// Why a guest cannot go on after this outcome of `exit`.
    pub const fn at(exit: Exit, outcome: Outcome) -> Self {
        match (outcome, exit) {
            (Outcome::Stop, Exit::EntryFailed(failure)) => Self::EntryFailed(failure),
            (Outcome::Stop, _) => Self::Reset,
            (Outcome::HandUp, _) => Self::HandUp,
            _ => Self::Unhandled(exit),
        }
    }
}
