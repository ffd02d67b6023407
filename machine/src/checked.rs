//! Checks before every entry, in builds that check themselves.

use x86::Broken;

/// Whether this build checks before every entry what the CPU is going to check:
/// so that a rule is named where it was broken, and not after a jump into the
/// unknown on a CPU that lets it pass.
pub(crate) const CHECKS_ENTRIES: bool = cfg!(any(debug_assertions, feature = "breakable"));

/// Entries that were checked. Written by the vCPU that has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckedEntries {
    /// How many there were.
    pub entries: u64,
    /// How many rules were broken in all.
    pub broken: u64,
    /// No more entries are checked: checking costs more than a test of very
    /// many exits has time for.
    pub paused: bool,
}

impl CheckedEntries {
    /// One rule is broken before an entry.
    pub(crate) fn note(&mut self, broken: &Broken) {
        self.broken += 1;
        log::error!("about to enter the guest with a broken rule {broken}");
    }
}
