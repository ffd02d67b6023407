//! Runs the code that `reserve-code` has left in reserved memory: its
//! instructions exit, and are stepped over, as everywhere.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::cpu::{cpuid, rdmsr};
use tests::reserved::{ADDRESS, CPUID, RDMSR};
use tests::{Report, attempt};
use uefi::boot::{self, MemoryType};
use uefi::mem::memory_map::MemoryMap;

tests::guest!(check);

const EFER: u32 = 0xc000_0080;

fn check(report: &mut Report) {
    report.holds("the code is in reserved memory", is_reserved());
    let leaf = 0x8000_0000;
    let expected = Ok(cpuid(leaf).eax);
    report.equal("CPUID there", run(CPUID, leaf), expected);
    // SAFETY: every 64-bit CPU has the register.
    let expected = Ok(unsafe { rdmsr(EFER) } as u32);
    report.equal("RDMSR there", run(RDMSR, EFER), expected);
}

fn is_reserved() -> bool {
    let Ok(map) = boot::memory_map(MemoryType::LOADER_DATA) else {
        return false;
    };
    map.entries().any(|entry| {
        let end = entry.phys_start + entry.page_count * 0x1000;
        entry.ty == MemoryType::RESERVED && (entry.phys_start..end).contains(&ADDRESS)
    })
}

/// Calls the function at `offset` of the page.
fn run(offset: u64, argument: u32) -> Result<u32, tests::Fault> {
    attempt(|| {
        // SAFETY: such a function is there, and it changes nothing.
        unsafe {
            let function = (ADDRESS + offset) as *const ();
            let function: unsafe extern "sysv64" fn(u32) -> u32 = core::mem::transmute(function);
            function(argument)
        }
    })
}
