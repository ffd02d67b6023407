//! How one CPU makes another leave its guest: it sets a flag there and sends an
//! NMI, which is the guest's unless the flag says otherwise.
//!
//! An NMI does not say whose it is. Who gets one takes the flag back first and
//! judges then: looking for a failure before the flag is taken would let a
//! failing CPU find the flag still set, send nothing, and never be heard of.

use core::sync::atomic::Ordering::{AcqRel, Acquire};
use core::sync::atomic::{AtomicBool, AtomicU32};

/// Another CPU wants this one to look around. Set by who then sends an NMI,
/// taken back by who gets one.
#[derive(Debug, Default)]
pub(crate) struct Call(AtomicBool);

/// Whose an NMI is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nmi {
    /// The guest's.
    Guest,
    /// Another CPU's, to look around.
    Call,
    /// Another CPU's that failed: this one stops.
    Stop,
}

/// An NMI whose flag has been taken: only such a one can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) struct Taken(bool);

impl Call {
    /// Asks the CPU to look around. True: an NMI has to be sent, for none is on
    /// its way.
    pub(crate) fn ask(&self) -> bool {
        !self.0.swap(true, AcqRel)
    }

    /// The same where an NMI is sent in any case: the flag comes first, so that
    /// a spare one is no NMI of the guest's. An exchange, because in x2APIC mode
    /// sending may overtake a mere store.
    pub(crate) fn insist(&self) {
        self.0.swap(true, AcqRel);
    }

    /// An NMI arrived. The CPU looks around after this, so that what it was
    /// called for is there.
    pub(crate) fn take(&self) -> Taken {
        Taken(self.0.swap(false, AcqRel))
    }
}

impl Taken {
    /// Whose it was, on CPU `own`.
    pub(crate) fn judge(self, failure: &Failure, own: u32) -> Nmi {
        match self {
            _ if failure.is_of_another(own) => Nmi::Stop,
            Self(true) => Nmi::Call,
            Self(false) => Nmi::Guest,
        }
    }
}

/// The number of the CPU that failed. Written once, by that CPU.
#[derive(Debug)]
pub(crate) struct Failure(AtomicU32);

const NOBODY: u32 = u32::MAX;

impl Failure {
    pub(crate) const fn new() -> Self {
        Self(AtomicU32::new(NOBODY))
    }

    /// CPU `own` fails. True for the first: a failure while failing must not
    /// start over, and one of another CPU has its reason in the first.
    pub(crate) fn note(&self, own: u32) -> bool {
        let first = self.0.compare_exchange(NOBODY, own, AcqRel, Acquire);
        first.is_ok()
    }

    fn is_of_another(&self, own: u32) -> bool {
        let failed = self.0.load(Acquire);
        failed != NOBODY && failed != own
    }
}

#[cfg(test)]
mod tests;
