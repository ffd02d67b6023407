//! The way of a CPU through INIT and start-up signals, and what is known of it
//! while it runs. Intel SDM volume 3, "MP Initialization Protocol Algorithm for
//! MP Systems".
//!
//! Who sends a signal changes the state, and the CPU takes up what is due when
//! it comes to it. Natively a signal acts at once; so each later one is judged
//! as if all before had been taken up already.
//!
//! A system sends a CPU such signals when it takes it up: at its boot, after
//! the CPU was down, or because another system began. [`Life`] tells when that
//! cannot be, so that nobody need watch for signals.

/// A signal to a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// INIT.
    Init,
    /// A start-up IPI, with its vector.
    Startup(u8),
}

/// Something that a running CPU does, and that tells how it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Its system names its entry for system calls (IA32_LSTAR). Every 64-bit
    /// kernel does, once on each CPU in each boot; firmware does not.
    Entry,
    /// It has its caches written back. That may be the last before it halts for
    /// good: a CPU that goes offline must leave nothing in its caches.
    WriteBack,
    /// It writes to its local APIC, as one that has halted does not.
    Alive,
}

/// What is known of a CPU that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs what the firmware has it run.
    Firmware,
    /// It runs since a start-up IPI, and has named no entry yet.
    Started,
    /// It was up, and may have halted for good.
    Doubtful,
    /// It was up for a system after which another one has begun.
    Abandoned,
    /// A system has it, and takes no start-up signal to use it.
    Up,
}

/// Where a CPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs, and start-up IPIs are lost on it.
    Running(Life),
    /// It got an INIT that it has not taken up.
    Init,
    /// It waits for a start-up IPI.
    Waiting,
    /// It got a start-up IPI that it has not taken up, nor maybe the INIT
    /// before.
    Started(u8),
}

/// What a CPU has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Go on.
    Nothing,
    /// Take the state after INIT, and go on at the reset vector.
    Restart,
    /// Take the state after INIT, and look again.
    Reset,
    /// Look again.
    Wait,
    /// Take the state after INIT, and start at this page.
    Start(u8),
}

impl Life {
    const fn sign(self, sign: Sign) -> Self {
        match (self, sign) {
            (_, Sign::Entry) | (Self::Doubtful | Self::Abandoned, Sign::Alive) => Self::Up,
            (Self::Up, Sign::WriteBack) => Self::Doubtful,
            (life, Sign::WriteBack | Sign::Alive) => life,
        }
    }
}

impl State {
    /// The state after `signal`. A boot processor never waits.
    #[must_use]
    pub const fn signal(self, signal: Signal, boot: bool) -> Self {
        match (self, signal) {
            (Self::Waiting, Signal::Init) => Self::Waiting,
            (_, Signal::Init) => Self::Init,
            (Self::Init | Self::Waiting, Signal::Startup(page)) if !boot => Self::Started(page),
            (state, Signal::Startup(_)) => state,
        }
    }

    /// What the CPU has to do, and its state once it has.
    #[must_use]
    pub const fn take(self, boot: bool) -> (Self, Due) {
        match self {
            Self::Running(life) => (Self::Running(life), Due::Nothing),
            Self::Init if boot => (Self::Running(Life::Firmware), Due::Restart),
            Self::Init => (Self::Waiting, Due::Reset),
            Self::Waiting => (Self::Waiting, Due::Wait),
            Self::Started(page) => (Self::Running(Life::Started), Due::Start(page)),
        }
    }

    /// The state after `sign` of the CPU's own. One that has a signal to take
    /// up gives no more signs: natively it would not have come to it.
    #[must_use]
    pub const fn sign(self, sign: Sign) -> Self {
        match self {
            Self::Running(life) => Self::Running(life.sign(sign)),
            other => other,
        }
    }

    /// Whether another system begins on this CPU with `sign`: one that was not
    /// just started by the running one has a kernel of its own. Its other CPUs
    /// are then [abandoned](Self::abandon).
    pub const fn begins_system(self, sign: Sign) -> bool {
        let fresh = matches!(self, Self::Running(life) if !matches!(life, Life::Started));
        fresh && matches!(sign, Sign::Entry)
    }

    /// The state after a system has begun on another CPU. What the CPU did for
    /// the system before is over; one that has halted gives no sign any more.
    #[must_use]
    pub const fn abandon(self) -> Self {
        match self {
            Self::Running(Life::Up | Life::Doubtful) => Self::Running(Life::Abandoned),
            other => other,
        }
    }

    /// Whether its system may be over.
    pub const fn is_abandoned(self) -> bool {
        matches!(self, Self::Running(Life::Abandoned))
    }

    /// Whether it was up, and may have halted for good.
    pub const fn is_in_doubt(self) -> bool {
        matches!(self, Self::Running(Life::Doubtful | Life::Abandoned))
    }

    /// Whether no start-up signal is to be expected for it.
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Running(Life::Up))
    }

    /// As a number that CPUs can exchange. 0 is a CPU of the firmware's.
    pub const fn word(self) -> u32 {
        match self {
            Self::Running(Life::Firmware) => 0,
            Self::Init => 1,
            Self::Waiting => 2,
            Self::Started(page) => 3 | (page as u32) << 8,
            Self::Running(Life::Started) => 4,
            Self::Running(Life::Doubtful) => 5,
            Self::Running(Life::Up) => 6,
            Self::Running(Life::Abandoned) => 7,
        }
    }

    /// The state with this number.
    pub const fn from_word(word: u32) -> Self {
        match word & 0xff {
            1 => Self::Init,
            2 => Self::Waiting,
            3 => Self::Started((word >> 8) as u8),
            4 => Self::Running(Life::Started),
            5 => Self::Running(Life::Doubtful),
            6 => Self::Running(Life::Up),
            7 => Self::Running(Life::Abandoned),
            _ => Self::Running(Life::Firmware),
        }
    }
}

#[cfg(test)]
mod tests;
