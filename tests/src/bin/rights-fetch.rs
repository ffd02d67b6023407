//! The matrix of rights for instruction fetches: those of the guest, and those
//! that the hypervisor's emulator makes for it.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

tests::guest!(check);

#[cfg(not(target_os = "uefi"))]
fn check(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn check(report: &mut tests::Report) {
    use tests::rights::{self, Access, Choice};
    let choice = Choice {
        cases: 10_000,
        accesses: &[Access::Fetch],
    };
    rights::check(report, choice);
}
