//! Prints by calling the service `print`, a byte a call.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use abi::call::PRINT;
use core::arch::asm;
use tests::{Report, cpu, print};

tests::guest!(check);

fn check(report: &mut Report) {
    report.holds("printing is offered", print::offer().is_some());
    let is_intel = cpu::is_intel();
    let mut refused = 0;
    print::timed(report, "call", |text| {
        for byte in text {
            // SAFETY: Underlay offers printing, so that this CPU's instruction
            // is a call; `print` changes no register but RAX.
            refused |= unsafe { call(is_intel, *byte) };
        }
    });
    report.equal("each call succeeds", refused, 0);
}

/// # Safety
///
/// Underlay is beneath and `is_intel` tells the CPU's vendor.
unsafe fn call(is_intel: bool, byte: u8) -> u64 {
    let byte = u64::from(byte);
    let result;
    // SAFETY: as the caller promises; RBX, which the compiler keeps for itself,
    // is put back.
    unsafe {
        if is_intel {
            asm!("xchg rbx, {byte}", "vmcall", "xchg rbx, {byte}",
                 byte = inout(reg) byte => _, inout("rax") PRINT => result, options(nostack));
        } else {
            asm!("xchg rbx, {byte}", "vmmcall", "xchg rbx, {byte}",
                 byte = inout(reg) byte => _, inout("rax") PRINT => result, options(nostack));
        }
    }
    result
}
