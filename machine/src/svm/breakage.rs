//! Rules of VMRUN, broken for real: only in the build with the feature
//! `breakable`.

use super::checks;
use super::enter::{self, Frame};
use core::ptr::NonNull;
use x86::broken::Trial;
use x86::svm::checks::{BREAKAGES, Capabilities};
use x86::svm::exit::code::INVALID;
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
    // SAFETY: the VMCB is the caller's vCPU's alone, which does not run.
    let before = unsafe { *at.as_ref() };
    let mut broken = before;
    change(&mut broken);
    let mut trial = Trial::default();
    checks::broken(&broken, capabilities, &mut |broken| {
        log::info!("broken on purpose: {broken}");
        trial.name(&broken);
    });
    // SAFETY: as above; no reference is alive while the guest could run, which
    // is the same guest as ever and which the caller tries only where VMRUN is
    // known to refuse.
    unsafe {
        *at.as_mut() = broken;
        enter::enter(frame);
        trial.refusal = u8::from(at.as_ref().control.exit_code == INVALID);
        *at.as_mut() = before;
    }
    frame.registers = registers;
    Some(trial)
}
