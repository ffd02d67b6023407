//! What a guest does that no ordinary system does. The first of each kind is
//! worth a line in the log, all others are counted: a guest cannot fill the log
//! with them.

use abi::report;
use core::fmt::Arguments;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! oddities {
    ($($(#[$doc:meta])* $oddity:ident $name:literal,)*) => {
        /// Something odd.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Oddity { $($(#[$doc])* $oddity,)* }

        /// By their numbers.
        const NAMES: [&str; [$($name),*].len()] = [$($name),*];
    };
}

oddities! {
    /// The guest reached for the hypervisor's memory.
    Trespass "access-to-underlay",
    /// An access to an address that no table covers.
    OutsideMemory "access-to-nothing",
    /// An MSR that the CPU does not have, beyond those that the bitmaps cover.
    UnknownMsr "unknown-msr",
    /// Memory types that the nested tables cannot follow.
    MemoryTypes "too-many-memory-types",
    /// An exit that nothing asks for.
    UnaskedExit "unasked-exit",
    /// An instruction on watched memory or ports that the emulator does not
    /// know.
    UnknownForm "unknown-instruction-form",
    /// An event, a page walk or a fetch that reached watched memory.
    NoInstruction "access-without-instruction",
    /// A call that its caller may not make.
    RefusedCall "refused-call",
    /// An INIT signal to the boot processor, or one whose sender was not watched.
    Init "init",
    /// A local APIC that was to be moved, or switched off, with several CPUs.
    Apic "apic-moved-or-off",
    /// A sleep out of which the machine would wake without the hypervisor.
    Sleep "refused-sleep",
}

/// How often each happened. Counted by all CPUs of a guest.
#[derive(Default)]
pub struct Oddities([AtomicU64; NAMES.len()]);

impl Oddities {
    /// Counts one; the first of its kind goes to the log with `what`.
    pub fn note(&self, oddity: Oddity, what: Arguments<'_>) {
        let number = oddity as usize;
        let (Some(count), Some(name)) = (self.0.get(number), NAMES.get(number)) else {
            return;
        };
        if count.fetch_add(1, Ordering::Relaxed) == 0 {
            log::warn!("first {name}: {what}; more are counted in silence");
        }
    }

    /// All kinds.
    pub fn all(&self) -> impl ExactSizeIterator<Item = report::Oddity<'static>> {
        let rows = self.0.iter().zip(NAMES);
        rows.map(|(count, name)| report::Oddity {
            name,
            count: count.load(Ordering::Relaxed),
        })
    }

    /// All kinds; None for those that did not happen.
    pub fn kinds(&self) -> impl Iterator<Item = Option<report::Oddity<'static>>> {
        self.all().map(|row| Some(row).filter(|row| row.count > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_under_its_own_name() {
        let oddities = Oddities::default();
        oddities.note(Oddity::Init, format_args!(""));
        oddities.note(Oddity::Trespass, format_args!(""));
        oddities.note(Oddity::Init, format_args!(""));
        let counts: Vec<_> = oddities
            .kinds()
            .flatten()
            .map(|row| (row.name, row.count))
            .collect();
        assert_eq!(counts, [("access-to-underlay", 1), ("init", 2)]);
    }
}
