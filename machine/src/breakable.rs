//! What the hypervisor must not be able to do, tried: only in the build with
//! the feature `breakable`, which the tests make and nobody ships.

use crate::instructions::read_cr3;
use crate::tables::DIRECT_MAP;
use crate::{guarded, percpu};
use core::arch::asm;
use x86::PAGE_SIZE;

/// Tries every access that the hypervisor's own tables must not allow, and
/// returns a bit for each that succeeded: 0 read of address 0, 1 write to its
/// code, 2 write to its read-only data, 3 read below its stack, 4 read of
/// guest memory at its physical address, 5 read of its own page tables through
/// the direct map.
pub fn forbidden_accesses() -> u64 {
    static CONSTANT: u64 = 0x5a;
    let code = forbidden_accesses as *const () as u64;
    let constant = core::ptr::from_ref(&CONSTANT) as u64;
    const STACK: u64 = percpu::STACK as u64 * PAGE_SIZE;
    let below_stack = percpu::current().map_or(0, |percpu| percpu.stack_top - STACK - PAGE_SIZE);
    let attempts = [
        can_read(8),
        can_write(code),
        can_write(constant),
        can_read(below_stack),
        can_read(0x10_0000),
        can_read(DIRECT_MAP + (read_cr3() & !0xfff)),
    ];
    attempts
        .iter()
        .enumerate()
        .fold(0, |bits, (n, done)| bits | u64::from(*done) << n)
}

fn can_read(at: u64) -> bool {
    let mut byte = 0;
    // SAFETY: either the address faults, as it should, or a byte is read.
    unsafe { guarded::copy(&mut byte, at as *const u8, 1) }
}

/// Writes back the byte that is there, so that nothing changes where the write
/// succeeds although it should not.
fn can_write(at: u64) -> bool {
    let mut byte = 0;
    // SAFETY: the byte is readable memory of the hypervisor's; writing its own
    // value over it changes nothing.
    unsafe {
        guarded::copy(&mut byte, at as *const u8, 1) && guarded::copy(at as *mut u8, &byte, 1)
    }
}

/// Jumps to a RET on the stack: ends in a report.
pub fn execute_data() {
    let code = [0xc3u8; 16];
    // SAFETY: the jump faults, because the stack is not executable; a RET would
    // only come back.
    unsafe { asm!("call {}", in(reg) code.as_ptr(), clobber_abi("sysv64")) };
}

/// Uses up the stack: ends in a report from the guard page.
#[allow(unconditional_recursion)]
pub fn exhaust_stack(depth: u64) -> u64 {
    let room = core::hint::black_box([depth; 32]);
    exhaust_stack(depth + 1) + core::hint::black_box(room)[3]
}
