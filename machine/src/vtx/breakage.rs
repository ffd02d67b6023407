//! Rules of VM entry, broken for real: only in the build with the feature
//! `breakable`.

use super::block::Vmcs;
use super::checks;
use super::enter::{self, Frame};
use core::arch::asm;
use x86::broken::Trial;
use x86::vtx::checks::Capabilities;
use x86::vtx::checks::breakages::{self, Change};
use x86::vtx::control::processor;
use x86::vtx::exit::{ENTRY_FAILED, NOT_ENTERED};
use x86::vtx::field::{self, Fields};

/// The most changes of one row.
const CHANGES: usize = 8;

/// Breaks the VMCS by `row` of [`breakages::for_real`], tries to enter, names
/// the broken rules and puts all fields back. Should the CPU enter the guest
/// all the same, the NMI window brings it back before the first instruction.
pub(crate) fn enter_broken(
    frame: &mut Frame,
    vmcs: &Vmcs,
    capabilities: &Capabilities,
    row: usize,
) -> Option<Trial> {
    let changes = breakages::for_real().nth(row)?.changes;
    let controls = vmcs.read(field::PROCESSOR_CONTROLS);
    vmcs.write(field::PROCESSOR_CONTROLS, controls | processor::NMI_WINDOW);
    let mut before = [0; CHANGES];
    for (change, kept) in changes.iter().zip(&mut before) {
        *kept = vmcs.try_read(change.field)?;
        write(change, change.of(*kept));
    }
    // SAFETY: the same guest as ever. A rule of the hypervisor's own state is
    // broken only where the CPU is known to look before it enters.
    let reason = unsafe { enter::enter(frame) };
    let mut trial = Trial {
        refusal: refusal(vmcs, reason),
        ..Trial::default()
    };
    checks::broken(vmcs, capabilities, &mut |broken| {
        log::info!("broken on purpose: {broken}");
        trial.name(&broken);
    });
    for (change, kept) in changes.iter().zip(&before).rev() {
        write(change, *kept);
    }
    vmcs.write(field::PROCESSOR_CONTROLS, controls);
    Some(trial)
}

fn refusal(vmcs: &Vmcs, reason: u32) -> u8 {
    match reason {
        NOT_ENTERED => vmcs.read(field::INSTRUCTION_ERROR) as u8,
        failed if failed & ENTRY_FAILED != 0 => failed as u8,
        _ => 0,
    }
}

fn write(change: &Change, value: u64) {
    // SAFETY: a VMCS is current, so VMWRITE does not fault; what the field may
    // hold is checked by VM entry, and `enter_broken` puts back what it held.
    unsafe { asm!("vmwrite {}, {}", in(reg) change.field, in(reg) value, options(nostack)) };
}
