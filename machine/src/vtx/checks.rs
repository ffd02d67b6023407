//! The rules of VM entry, asked of the active VMCS: after an entry that failed,
//! and before every one in builds that check themselves.

use super::block::Vmcs;
use crate::{guarded, instructions};
use core::fmt::Write;
use x86::Broken;
use x86::exit::EntryFailure;
use x86::vtx::checks::{Capabilities, Snapshot, check};
use x86::vtx::field::{self, Fields};

/// What this CPU allows.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::read(
        &mut |number| guarded::read_msr(number).unwrap_or(0),
        &instructions::cpuid,
    )
}

/// Names every rule that the active VMCS breaks.
pub(crate) fn broken(vmcs: &Vmcs, capabilities: &Capabilities, each: &mut dyn FnMut(Broken)) {
    let mut read = |encoding| vmcs.try_read(encoding).unwrap_or(0);
    let snapshot = Snapshot::take(vmcs.address(), capabilities, &mut read);
    check(&snapshot, capabilities, each);
}

/// Logs why an entry failed.
#[cold]
pub(crate) fn explain(vmcs: &Vmcs, capabilities: &Capabilities, failure: EntryFailure) {
    let mut count = 0;
    broken(vmcs, capabilities, &mut |broken| {
        count += 1;
        log::error!("VM entry: broken rule {broken}");
    });
    log::error!("VM entry failed: {failure:?}, {count} known rules broken");
}

/// Writes what the guest was doing, for a report.
pub(crate) fn describe(out: &mut dyn Write) {
    // SAFETY: named for reports only once a VMCS is current.
    let vmcs = unsafe { Vmcs::current() };
    let _ = writeln!(
        out,
        "guest: exit reason {:#x} qualification {:#x} cs:rip {:x}:{:#x} cr0 {:#x} cr3 {:#x} cr4 {:#x} instruction error {}",
        vmcs.read(field::EXIT_REASON),
        vmcs.read(field::EXIT_QUALIFICATION),
        vmcs.read(field::GUEST_CS),
        vmcs.read(field::GUEST_RIP),
        vmcs.read(field::GUEST_CR0),
        vmcs.read(field::GUEST_CR3),
        vmcs.read(field::GUEST_CR4),
        vmcs.read(field::INSTRUCTION_ERROR),
    );
    broken(&vmcs, &capabilities(), &mut |broken| {
        let _ = writeln!(out, "broken rule {broken}");
    });
}
