//! Locks VT-x off as some firmware does, then starts the loader, which must say
//! so and boot on. The next stage reports; this guest only if the loader comes
//! back.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::{Report, attempt, chain, cpu};
use x86::msr::{FEATURE_CONTROL, FEATURE_CONTROL_LOCK, FEATURE_CONTROL_VMX};

tests::guest!(check);

fn check(report: &mut Report) {
    lock(report);
    let ended = chain::start_loader();
    report.holds(format_args!("the loader goes on, not {ended:?}"), false);
}

/// Locks without VMX, unless the firmware has locked already.
fn lock(report: &mut Report) {
    // SAFETY: reading changes nothing; the lock takes away nothing that this
    // program or the firmware uses.
    let value = attempt(|| unsafe {
        if cpu::rdmsr(FEATURE_CONTROL) & FEATURE_CONTROL_LOCK == 0 {
            cpu::wrmsr(FEATURE_CONTROL, FEATURE_CONTROL_LOCK);
        }
        cpu::rdmsr(FEATURE_CONTROL)
    });
    let off = value.map(|value| value & (FEATURE_CONTROL_LOCK | FEATURE_CONTROL_VMX));
    report.equal("VT-x is locked off", off, Ok(FEATURE_CONTROL_LOCK));
}
