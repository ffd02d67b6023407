//! Reading the memory-type range registers of this CPU.

use crate::instructions::{cpuid, read_msr};
use x86::mtrr::{FIXED_NUMBERS, Mtrrs, VARIABLE_MAX};
use x86::{cpuid, msr};

/// How many variable ranges this CPU has; 0 where it has no MTRRs.
pub fn variable_count() -> u32 {
    if cpuid(cpuid::FEATURES, 0).edx & cpuid::EDX1_MTRR == 0 {
        return 0;
    }
    // SAFETY: a CPU with MTRRs has IA32_MTRRCAP.
    let capabilities = unsafe { read_msr(msr::MTRR_CAPABILITIES) };
    (capabilities as u32 & 0xff).min(VARIABLE_MAX as u32)
}

/// What the MTRRs say now.
pub fn read() -> Mtrrs {
    let mut mtrrs = Mtrrs::none();
    if cpuid(cpuid::FEATURES, 0).edx & cpuid::EDX1_MTRR == 0 {
        return mtrrs;
    }
    // SAFETY: a CPU with MTRRs has IA32_MTRRCAP and IA32_MTRR_DEF_TYPE; the
    // capabilities say whether it has fixed ranges and how many variable ones.
    unsafe {
        let capabilities = read_msr(msr::MTRR_CAPABILITIES);
        mtrrs.default_type = read_msr(msr::MTRR_DEFAULT_TYPE);
        if capabilities & (1 << 8) != 0 {
            for (slot, number) in mtrrs.fixed.iter_mut().zip(FIXED_NUMBERS) {
                *slot = read_msr(number);
            }
        }
        let count = variable_count() as usize;
        for (number, range) in mtrrs.variable.iter_mut().take(count).enumerate() {
            let first = msr::MTRR_VARIABLE_BASE + 2 * number as u32;
            range.base = read_msr(first);
            range.mask = read_msr(first + 1);
        }
    }
    mtrrs
}
