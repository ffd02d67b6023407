//! Random instructions with an operand in memory do the same on ordinary memory
//! and on a page whose accesses a hypervisor of the breakable build emulates.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

tests::guest!(check);

#[cfg(not(target_os = "uefi"))]
fn check(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn check(report: &mut tests::Report) {
    use tests::emulated::{self, Choice};
    let choice = Choice {
        cases: 34_000,
        seed: 1,
    };
    emulated::check(report, choice);
}
