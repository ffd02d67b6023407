//! Rules of VMRUN, broken for real: only in the build with the feature
//! `breakable`.

use super::checks;
use super::enter::{self, Frame};
use core::ptr::NonNull;
use x86::broken::Trial;
use x86::svm::checks::{BREAKAGES, Capabilities};
use x86::svm::exit::code::{INVALID, INVALID_32};
use x86::svm::vmcb::Vmcb;

/// Breaks the VMCB by `row` of [`BREAKAGES`], names the broken rules, tries to
/// enter, and puts everything back. The rules are asked before the entry: QEMU
/// writes a state into the VMCB when it refuses one.
pub(crate) fn enter_broken(
    frame: &mut Frame,
    mut at: NonNull<Vmcb>,
    capabilities: &Capabilities,
    row: usize,
) -> Option<Trial> {
    let change = BREAKAGES.get(row)?.change;
    let registers = frame.registers;
    // The two halves, not the page: a page-aligned value on the stack is one
    // that the compiler cannot be trusted with (Rust 1.95 lost the prologue).
    // SAFETY: the VMCB is the caller's vCPU's alone, which does not run.
    let (control, save) = unsafe { (at.as_ref().control, at.as_ref().save) };
    let mut trial = Trial::default();
    // SAFETY: as above.
    let vmcb = unsafe { at.as_mut() };
    change(vmcb);
    checks::broken(vmcb, capabilities, &mut |broken| {
        log::info!("broken on purpose: {broken}");
        trial.name(&broken);
    });
    // SAFETY: no reference to the VMCB is alive while the guest could run, which
    // is the same guest as ever and which the caller tries only where VMRUN is
    // known to refuse.
    unsafe {
        enter::enter(frame);
        let code = at.as_ref().control.exit_code;
        trial.refusal = u8::from(code == INVALID || code == INVALID_32);
        at.as_mut().control = control;
        at.as_mut().save = save;
    }
    frame.registers = registers;
    Some(trial)
}
