//! The rules that VMRUN checks, asked of a VMCB: after an entry that failed, and
//! before every one in builds that check themselves.

use crate::{instructions, percpu};
use core::fmt::Write;
use core::sync::atomic::Ordering;
use x86::Broken;
use x86::exit::EntryFailure;
use x86::svm::checks::{Capabilities, check};
use x86::svm::vmcb::Vmcb;

/// What this CPU allows.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities::read(&instructions::cpuid)
}

/// Names every rule that `vmcb` breaks.
pub(crate) fn broken(vmcb: &Vmcb, capabilities: &Capabilities, each: &mut dyn FnMut(Broken)) {
    check(vmcb, capabilities, each);
}

/// Logs why an entry failed.
#[cold]
pub(crate) fn explain(vmcb: &Vmcb, capabilities: &Capabilities, failure: EntryFailure) {
    let mut count = 0;
    broken(vmcb, capabilities, &mut |broken| {
        count += 1;
        log::error!("VM entry: broken rule {broken}");
    });
    log::error!("VM entry failed: {failure:?}, {count} known rules broken");
}

/// Writes what the guest was doing, for a report.
pub(crate) fn describe(out: &mut dyn Write) {
    let block = percpu::current().map(|percpu| percpu.block.load(Ordering::Acquire));
    let vmcb = block.unwrap_or(core::ptr::null_mut()).cast::<Vmcb>();
    // SAFETY: set before this is named for reports; the VMCB is static, and
    // the CPU that would write it is busy with this report.
    let Some(vmcb) = (unsafe { vmcb.as_ref() }) else {
        return;
    };
    let _ = writeln!(
        out,
        "guest: exit code {:#x} info {:#x} {:#x} cs:rip {:x}:{:#x} cr0 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
        vmcb.control.exit_code,
        vmcb.control.exit_info1,
        vmcb.control.exit_info2,
        vmcb.save.cs.selector,
        vmcb.save.rip,
        vmcb.save.cr0,
        vmcb.save.cr3,
        vmcb.save.cr4,
        vmcb.save.efer,
    );
    broken(vmcb, &capabilities(), &mut |broken| {
        let _ = writeln!(out, "broken rule {broken}");
    });
}
