//! Three times as many random instructions as `emulated-instructions` runs, and
//! others each time.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

tests::guest!(check);

#[cfg(not(target_os = "uefi"))]
fn check(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn check(report: &mut tests::Report) {
    use tests::emulated::{self, Choice};
    // SAFETY: RDTSC changes nothing.
    let seed = unsafe { core::arch::x86_64::_rdtsc() };
    let choice = Choice {
        cases: 100_000,
        seed,
    };
    emulated::check(report, choice);
}
