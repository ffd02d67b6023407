//! The matrix of rights, a share of it in which every two settings meet, and
//! larger with `random=CASES` on the command line.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

tests::guest!(check);

#[cfg(not(target_os = "uefi"))]
fn check(_: &mut tests::Report) {}

#[cfg(target_os = "uefi")]
fn check(report: &mut tests::Report) {
    use tests::rights::{self, Access, Choice};
    use tests::transcript::Options;
    let choice = Choice {
        cases: Options::of_this_guest().random(30_000),
        accesses: &[Access::Read, Access::Write],
    };
    rights::check(report, choice);
}
