//! Why the hypervisor does not run: the cause and what to do, in a sentence.

use core::fmt;

use abi::Refusal;
use loader::image::Damage;
use uefi::Status;

use super::volume::{HYPERVISOR, Unread};

/// What kept the hypervisor from running.
pub(super) enum Failure {
    /// Its file could not be read.
    Unread(Unread),
    /// Its file is damaged.
    Damaged(Damage),
    /// The firmware's page tables do not let it run at this address.
    NotMapped(u64),
    /// The firmware does not start the other CPUs.
    NoOthers(Status),
    /// The machine is not fit for it.
    Refused(Refusal),
}

impl Failure {
    /// Whether Underlay runs all the same, since an earlier start.
    pub(super) fn is_already_beneath(&self) -> bool {
        matches!(self, Self::Refused(Refusal::AlreadyRunning))
    }
}

impl From<Unread> for Failure {
    fn from(unread: Unread) -> Self {
        Self::Unread(unread)
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread(unread) => write!(
                f,
                "cannot read {HYPERVISOR} ({unread}): install it from the loader's release"
            ),
            Self::Damaged(damage) => write!(
                f,
                "{HYPERVISOR} is damaged ({damage}): copy it again from the loader's release"
            ),
            Self::NotMapped(address) => write!(
                f,
                "the firmware's page tables do not let the hypervisor run at {address:#x}: please report the machine's model and firmware version"
            ),
            Self::NoOthers(status) => write!(
                f,
                "the firmware does not start the machine's other CPUs ({status}): switch them off in its set-up"
            ),
            Self::Refused(refusal) => write!(f, "{refusal}"),
        }
    }
}
