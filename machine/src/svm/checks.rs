//! The rules that VMRUN checks, asked of a VMCB: after an entry that failed, and
//! before every one in builds that check themselves.

use crate::instructions;
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
