//! Asks a hypervisor of the breakable build how many entries it checked while
//! the firmware ran, and whether one broke a rule.
#![cfg_attr(target_os = "uefi", no_main, no_std)]

use tests::Report;
use tests::call::call;

tests::guest!(check);

const CHECKED_ENTRIES: u64 = 0xb011;

fn check(report: &mut Report) {
    let checked = call(CHECKED_ENTRIES, [0; 5]).map_or(0, |reply| reply.rax);
    report.holds(
        format_args!("{checked} entries were checked and broke no rule"),
        checked > 0,
    );
    let more = call(CHECKED_ENTRIES, [0; 5]).map_or(0, |reply| reply.rax);
    report.holds("and every further one counts", more > checked);
}
